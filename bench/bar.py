"""The figures that count, by their keys in results.json, and the bar that each of them must hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Table

RESULTS = Path(__file__).with_name("results.json")

KEYS = (
    "chalice_cpu_over_ours",
    "node_cpu_over_ours",
    "rate_over_wrk",
    "sends_per_second_128",
    "quota_over_bound",
    "lost",
    "twice",
    "units_connect",
    "units_join",
    "units_leave",
    "units_disconnect",
    "first_event_cpu_over_baseline",
    "zip_mb",
    "rss_mb_1000",
    "rss_mb_100000",
)

SUMMED = ("lost", "twice")
"""Several measurements count these; all others are one's own."""

HELD, MISSED, NOT_MEASURED = "held", "missed", "not measured"

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the bar: the figures it is about, and whether those hold it."""

    what: str
    bar: str
    keys: tuple[str, ...]
    holds: Callable[..., bool]

    def verdict(self, figures: Figures) -> str:
        values = [figures.get(key) for key in self.keys]
        if None in values:
            return NOT_MEASURED
        return HELD if self.holds(*values) else MISSED


def at_most(most: float) -> Callable[[float], bool]:
    return lambda value: value <= most


def at_least(least: float) -> Callable[[float], bool]:
    return lambda value: value >= least


def all_the_same(values: list[float]) -> bool:
    return len(set(values)) == 1


MEMORY_GROWTH = 1.2
"""What is called constant: 1,000 receivers take fewer than all threads, each of which has a socket; and each process
has some percent more or less than the one before.
"""

BAR = (
    Row("CPU per send, chalice's default over ours", "at least 12", ("chalice_cpu_over_ours",), at_least(12)),
    Row("sends/s of one core, ours over wrk's", "at least 0.6", ("rate_over_wrk",), at_least(0.6)),
    Row("broadcast under a quota, over the bound", "at most 1.10", ("quota_over_bound",), at_most(1.10)),
    Row("lost", "none", ("lost",), at_most(0)),
    Row("twice", "none", ("twice",), at_most(0)),
    Row("units of a connect, by table size", "the same", ("units_connect",), all_the_same),
    Row("units of a join, by table size", "the same", ("units_join",), all_the_same),
    Row("units of a leave, by table size", "the same", ("units_leave",), all_the_same),
    Row("units of a disconnect, by table size", "the same", ("units_disconnect",), all_the_same),
    Row("first event's CPU, over import and a client", "at most 1.3", ("first_event_cpu_over_baseline",), at_most(1.3)),
    Row("Lambda zip, MB", "at most 8", ("zip_mb",), at_most(8)),
    Row(
        "peak memory, MB, at 1,000 and at 100,000 receivers",
        f"constant (within {MEMORY_GROWTH - 1:.0%})",
        ("rss_mb_1000", "rss_mb_100000"),
        lambda few, many: many <= few * MEMORY_GROWTH,
    ),
)


def table(figures: Figures) -> Table:
    """The bar, and what was measured beside it. Rows of which nothing was measured in this run are left out."""
    rows = [row for row in BAR if any(key in figures for key in row.keys)]
    return Table(
        "The bar",
        ("row", "bar", "measured", "verdict"),
        [
            (row.what, row.bar, ", ".join(_shown(figures.get(key)) for key in row.keys), row.verdict(figures))
            for row in rows
        ],
    )


def missed(figures: Figures) -> list[str]:
    """The rows that were missed."""
    return [row.what for row in BAR if row.verdict(figures) == MISSED]


def gather(measured: Iterable[Figures]) -> dict[str, Any]:
    """The figures of several measurements as those of one run."""
    run: dict[str, Any] = {}
    for figures in measured:
        for key, value in figures.items():
            run[key] = run[key] + value if key in SUMMED and key in run else value
    return run


def save(figures: Figures, *, keep: bool, path: Path = RESULTS) -> None:
    """Writes every key; those that were not measured are null or, where `keep` says so, as they were."""
    before = json.loads(path.read_text()) if keep and path.exists() else {}
    path.write_text(json.dumps({key: figures.get(key, before.get(key)) for key in KEYS}, indent=2) + "\n")


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case list():
            return " ".join(map(_shown, value))
        case float():
            return f"{value:,.2f}"
        case _:
            return f"{value:,}" if isinstance(value, int) else str(value)
