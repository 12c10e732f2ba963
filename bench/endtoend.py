"""(b) End to end: real WebSocket connections in one channel on the local gateway, and when each of them has a message.

Gateway, functions, store and clients share this machine, so the times compare what is in one table, and say nothing
about AWS. Beside Channels stands what tutorials write (tutorial_app/), on the same gateway, store and clients.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from rich.progress import Progress

from bench import plots
from bench.fanout import Fanout, Members
from bench.report import Measured, Table
from bench.store import running_store
from tests import server
from tests.server import ROOT

MESSAGE_BYTES = 2_048

PUBLISHES = {1_000: 20, 5_000: 8, 15_000: 3}
"""How many messages are published, by the number of connections."""
QUICK_PUBLISHES = {200: 5}
TUTORIAL_PUBLISHES = 5
LEAVING = 5
"""While further messages are published, one of so many members leaves …"""
LEAVING_PER_SECOND = 100
"""… but no more than that: each runs a $disconnect handler in the process that also is the gateway."""

COMPLAINTS_SHOWN = 3

CHANNELS = "Channels"
TUTORIAL = "tutorial: scan, post one by one"
TUTORIAL_APP = ROOT / "bench/tutorial_app"


@dataclass(frozen=True)
class Row:
    """A server, how many members it had, and what became of what was published to them. Times are in ms."""

    server: str
    store: str
    members: int
    left: int
    connects_per_second: float
    fanout: Fanout
    complaints: Sequence[str] = ()
    """Warnings and errors that the server has logged."""

    @property
    def first(self) -> float:
        return self._middle(lambda times: times[0])

    @property
    def median(self) -> float:
        return self._middle(median)

    @property
    def p99(self) -> float:
        return self._middle(lambda times: quantiles(times, n=100)[98])

    @property
    def last(self) -> float:
        return self._middle(lambda times: times[-1])

    @property
    def slowest(self) -> float:
        """The last delivery of the slowest publish: beside `last`, the noise."""
        return 1_000 * max((times[-1] for times in self.fanout.latencies if times), default=0.0)

    def _middle(self, of: Callable[[list[float]], float]) -> float:
        """The median over the publishes."""
        return 1_000 * median([of(times) for times in self.fanout.latencies if len(times) > 1] or [0.0])


def measure(quick: bool, progress: Progress) -> Measured:
    """One row for each number of connections, one more while a part of them leaves, and the rival at the smallest."""
    plan = QUICK_PUBLISHES if quick else PUBLISHES
    rows = [_tutorial(min(plan), progress)]
    for members, publishes in plan.items():
        rows += _channels(members, publishes, progress)
    if not quick:
        _plot(rows)
    ours = [row for row in rows if row.server == CHANNELS]
    return Measured(
        [_table(rows)],
        {"lost": sum(row.fanout.lost for row in ours), "twice": sum(row.fanout.twice for row in ours)},
        [failure for row in ours for failure in _failures(row)],
    )


def _failures(row: Row) -> list[str]:
    where = f"{row.members:,} connections, {row.left:,} leaving"
    found = [f"{where}: the publisher was answered {error}" for error in row.fanout.errors]
    if row.fanout.lost or row.fanout.twice:
        found.append(f"{where}: {row.fanout.lost:,} messages were lost, {row.fanout.twice:,} came twice")
    return found + [f"{where}: the server logged {line}" for line in row.complaints[:COMPLAINTS_SHOWN] if found]


def _tutorial(members: int, progress: Progress) -> Row:
    with _served(TUTORIAL_APP) as served, Members(served.url, members) as channel:
        with _bar(progress, f"tutorial: connecting {members:,}", members) as opened:
            channel.connect(opened)
        with _bar(progress, "tutorial: publishing", TUTORIAL_PUBLISHES) as came:
            fanout = channel.publish(TUTORIAL_PUBLISHES, MESSAGE_BYTES, progress=came)
        return Row(TUTORIAL, served.store, members, 0, members / channel.connected_in, fanout)


def _channels(members: int, publishes: int, progress: Progress) -> list[Row]:
    with _served(ROOT) as served, Members(served.url, members) as channel:
        with _bar(progress, f"connecting {members:,} members", members) as opened:
            channel.connect(opened)
        rate = members / channel.connected_in
        with _bar(progress, f"{members:,} members: publishing", publishes) as came:
            all_stay = channel.publish(publishes, MESSAGE_BYTES, progress=came)
        within = all_stay.seconds * 0.8
        leaving = min(members // LEAVING, round(within * LEAVING_PER_SECOND))
        with _bar(progress, f"{members:,} members, {leaving:,} leave: publishing", publishes) as came:
            some_leave = channel.publish(publishes, MESSAGE_BYTES, leaving=leaving, within=within, progress=came)
        complaints = served.complaints()
        return [
            Row(CHANNELS, served.store, members, left, rate, fanout, complaints)
            for left, fanout in ((0, all_stay), (leaving, some_leave))
        ]


@dataclass(frozen=True)
class _Served:
    url: str
    store: str
    """The name of the store that it has for itself."""
    log: Path

    def complaints(self) -> list[str]:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if " - WARNING - " in line or " - ERROR - " in line]


@contextmanager
def _served(project: Path) -> Iterator[_Served]:
    """A server for that app. It is killed at the end: no one waits for 15,000 $disconnect handlers."""
    with running_store() as store, tempfile.TemporaryDirectory() as folder:
        env = {
            "AWS_ENDPOINT_URL_DYNAMODB": store.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            # What is measured is this machine, not AWS's quotas.
            "LOCALAWS_CONNECT_RATE": "0",
            "LOCALAWS_REQUEST_RATE": "0",
        }
        log = Path(folder, "log")
        process = server.start(project, log, env=env)
        try:
            yield _Served(server.wait_until_served(process, log).url, store.name, log)
        finally:
            process.kill()
            process.wait()


@contextmanager
def _bar(progress: Progress, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that goes away at its end; what it yields is told how much is done."""
    task = progress.add_task(what, total=total)
    try:
        yield lambda done: progress.update(task, completed=done)
    finally:
        progress.remove_task(task)


def _plot(rows: list[Row]) -> None:
    full = [row for row in rows if not row.left]

    def line(server: str, figure: str) -> list[tuple[float, float]]:
        return [(row.members, getattr(row, figure)) for row in full if row.server == server]

    figures = {"last": "last delivery", "p99": "99th percentile", "median": "median", "first": "first delivery"}
    plots.save(
        "fanout",
        f"From a publish of {MESSAGE_BYTES:,} bytes to its deliveries; server, store and clients on one machine",
        "connections in the channel",
        "ms",
        [
            *(plots.Line(f"Channels: {label}", line(CHANNELS, figure)) for figure, label in figures.items()),
            *(
                plots.Line(f"tutorial: {figures[figure]}", line(TUTORIAL, figure), rival=True)
                for figure in ("last", "median")
            ),
        ],
    )


def _table(rows: list[Row]) -> Table:
    columns = ("connections", "leaving", "server", "publishes", "connects/s", "posts/s", "first ms", "median", "p99")
    return Table(
        f"(b) End to end: {MESSAGE_BYTES:,} bytes to one channel on the local gateway, over {rows[0].store}",
        (*columns, "last", "slowest", "lost", "twice"),
        [
            (
                f"{row.members:,}",
                f"{row.left:,}",
                row.server,
                f"{len(row.fanout.latencies)}",
                f"{row.connects_per_second:,.0f}",
                f"{row.fanout.posts_per_second:,.0f}",
                *(f"{ms:,.0f}" for ms in (row.first, row.median, row.p99, row.last, row.slowest)),
                f"{row.fanout.lost:,}",
                f"{row.fanout.twice:,}",
            )
            for row in rows
        ],
        (
            "Times since the publish frame was sent, each the median over the publishes. `slowest`: the last delivery "
            "of the slowest publish, which beside `last` shows the noise.",
            "Lost and twice are counted for each message at each member; lost only at those that stayed.",
            "Gateway, functions, store and clients share this machine's cores: compare rows, not with AWS.",
        ),
    )
