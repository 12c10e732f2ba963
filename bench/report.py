"""What a measurement gives back: tables for people, figures for results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows under named columns, and what has to be known to read them: the machine's noise, what is beside what."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """The tables of one measurement, its figures by their key in results.json, and what went wrong, in sentences."""

    tables: Sequence[Table]
    figures: Mapping[str, object] = field(default_factory=dict)
    failures: Sequence[str] = ()
