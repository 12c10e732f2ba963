"""Rounds of one measurement and their noise: a median alone says nothing on a machine that does other things too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Round:
    """What a sender did for a while."""

    sends: int
    seconds: float
    cpu: float
    """Seconds of CPU, user and system."""

    @property
    def cpu_us(self) -> float:
        """µs of CPU for each send."""
        return self.cpu / self.sends * 1e6

    @property
    def per_second(self) -> float:
        return self.sends / self.seconds


@dataclass
class Rounds:
    """The rounds of one sender."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def cpu_us(self) -> list[float]:
        return [each.cpu_us for each in self.rounds]

    @property
    def per_second(self) -> list[float]:
        return [each.per_second for each in self.rounds]


def with_noise(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the least and the most: `46 (44-51)`."""
    least, most = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return f"{median(values):,.{digits}f} ({least}-{most})"


def ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """Round by round, since the rounds of two senders stand side by side and share the machine's moods."""
    return [this / that for this, that in zip(these, those, strict=True)]
