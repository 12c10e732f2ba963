"""What one send costs: CPU and sends a second of chalice's default, boto3, Node's SDK, wrk, and ours, over TLS.

All of them stand in every round, one after the other, each in a process of its own on one core; the sink has the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import wrk
from bench.gateway import Gateway, running_gateway
from bench.machine import CLIENT_CORE, NODE, ROOT, Child
from bench.report import Measured, Table
from bench.rounds import Round, Rounds, ratios, with_noise
from bench.sink import Rules

if TYPE_CHECKING:
    from rich.progress import Progress

LATENCY_MS = 8.0
SENDER = ROOT / "bench/sender.mjs"
SDK = ROOT / "bench/node_modules/@aws-sdk/client-apigatewaymanagementapi"

SPARE = 1.5
"""So many times what is measured the sink must take, or it is the sink that is measured."""


@dataclass(frozen=True)
class Sender:
    """One row: a way to send, over so many connections, to a sink that answers after so long."""

    way: str
    how: str
    connections: int
    latency_ms: float = LATENCY_MS
    in_quick: bool = True


CHALICE = Sender("chalice", "chalice's websocket_api.send in a loop", 1, 0.0)
BOTO3 = Sender("boto3", "boto3 in threads", 128, in_quick=False)
NODE_SDK = Sender("node", "Node's AWS SDK v3, Promise.all", 128)
WRK = Sender("wrk", "wrk (C)", 128)
SEND = Sender("ours", "ours, websocket_api.send in threads", 128)
OURS = Sender("broadcast", "ours, a broadcast", 128)

SENDERS = (
    CHALICE,
    replace(CHALICE, latency_ms=LATENCY_MS),
    replace(BOTO3, connections=32, in_quick=True),
    BOTO3,
    NODE_SDK,
    replace(WRK, connections=1, in_quick=False),
    replace(WRK, connections=32, in_quick=False),
    WRK,
    replace(SEND, connections=1, in_quick=False),
    replace(SEND, connections=32, in_quick=False),
    SEND,
    replace(OURS, connections=1),
    replace(OURS, connections=32),
    OURS,
)

Run = Callable[[float], Round]


def measure(quick: bool, progress: Progress) -> Measured:
    """Each sender in turn, several times. Without Node or wrk their rows are left out."""
    count, seconds = (3, 0.5) if quick else (5, 1.0)
    senders = [sender for sender in SENDERS if _is_here(sender.way) and (sender.in_quick or not quick)]
    rounds = {sender: Rounds() for sender in senders}
    task = progress.add_task("sends: chalice, boto3, Node, wrk and ours in turn", total=count * len(senders) + 1)
    with running_gateway() as gateway, _running(senders, gateway) as running:
        gateway.rule(Rules())
        most = OURS if WRK not in senders else WRK
        tries = [running[most.way, most.connections](seconds) for _ in range(2)]
        capacity = max(tries, key=lambda each: each.per_second)
        progress.advance(task)
        for _ in range(count):
            for sender in senders:
                gateway.rule(Rules(latency_ms=sender.latency_ms))
                rounds[sender].rounds.append(running[sender.way, sender.connections](seconds))
                progress.advance(task)
    return _measured(rounds, capacity, most, count, seconds)


def _is_here(way: str) -> bool:
    return {"wrk": wrk.WRK is not None, "node": NODE is not None and SDK.exists()}.get(way, True)


@contextmanager
def _running(senders: Sequence[Sender], gateway: Gateway) -> Iterator[dict[tuple[str, int], Run]]:
    """Every way to send, warm and waiting for its round."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running: dict[tuple[str, int], Run] = {}
        children: list[Child] = []
        for way, connections in dict.fromkeys((sender.way, sender.connections) for sender in senders):
            if way == "wrk":
                running[way, connections] = _wrk(gateway, connections, folder)
            else:
                children.append(stack.enter_context(_child(way, connections, gateway)))
                running[way, connections] = _child_run(children[-1])
        for child in children:
            child.hear()
        yield running


def _child(way: str, connections: int, gateway: Gateway) -> Child:
    if way == "node":
        assert NODE is not None
        command = [NODE, "--no-warnings", str(SENDER), str(connections), gateway.address]
        return Child(command, gateway.env(), CLIENT_CORE)
    arguments = (way, str(connections), gateway.address)
    return Child.python("bench.senders", *arguments, env=gateway.env(), core=CLIENT_CORE)


def _child_run(child: Child) -> Run:
    return lambda seconds: Round(**child.ask(seconds=seconds))


def _wrk(gateway: Gateway, connections: int, folder: Path) -> Run:
    return lambda seconds: wrk.run(gateway, connections, seconds, folder)


def _measured(rounds: dict[Sender, Rounds], capacity: Round, most: Sender, count: int, seconds: float) -> Measured:
    ours = rounds[OURS]
    fastest = max(median(each.per_second) for each in rounds.values())
    notes = [
        f"medians (least-most) of {count} rounds of {seconds:g} s, all senders in turn; a ratio is that of each round",
        f"over ours: over a broadcast at 128 connections and {LATENCY_MS:.0f} ms in the same round",
        f"the sink on its own core takes {capacity.per_second:,.0f} posts/s without latency (from {most.how}, "
        f"{most.connections} connections), {capacity.per_second / fastest:.1f} times the fastest row",
    ]
    notes += [f"left out, not here: {what}" for what in ("wrk", "node") if not _is_here(what)]
    if CLIENT_CORE is None:
        notes.append("processes cannot be pinned to cores here: senders and sink share them")
    figures = {
        "chalice_cpu_over_ours": median(ratios(rounds[CHALICE].cpu_us, ours.cpu_us)),
        "node_cpu_over_ours": median(ratios(rounds[NODE_SDK].cpu_us, ours.cpu_us)) if NODE_SDK in rounds else None,
        "rate_over_wrk": median(ratios(ours.per_second, rounds[WRK].per_second)) if WRK in rounds else None,
        "sends_per_second_128": median(ours.per_second),
    }
    failures = []
    if most is WRK and capacity.per_second < SPARE * fastest:  # ours alone would not find out what the sink can take
        failures.append(f"the sink takes {capacity.per_second:,.0f} posts/s, too few to measure sends/s with")
    return Measured([_table(rounds, notes)], figures, failures)


def _table(rounds: dict[Sender, Rounds], notes: Sequence[str]) -> Table:
    ours = rounds[OURS]
    return Table(
        "CPU per send and sends/s from one core: TLS, 2 KB, connections open",
        ("how", "connections", "latency ms", "CPU µs/send", "over ours", "sends/s", "over ours"),
        [
            (
                sender.how,
                f"{sender.connections}",
                f"{sender.latency_ms:.0f}",
                with_noise(each.cpu_us),
                with_noise(ratios(each.cpu_us, ours.cpu_us), 1),
                with_noise(each.per_second),
                with_noise(ratios(each.per_second, ours.per_second), 2),
            )
            for sender, each in rounds.items()
        ],
        notes,
    )
