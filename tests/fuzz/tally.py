"""What the rounds have reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

from chalicelib.dialects import DIALECTS, Command
from chalicelib.errors import ClientError, OverLimit, UnknownName

from .reading import Meaning

ENOUGH = 20_000
"""So many events reach everything; with fewer, some may be missing."""

NOT_FOR_CLIENTS = (ClientError, OverLimit, UnknownName)
"""Those without a code of their own, and one that only a backend's event gets."""


@dataclass
class Tally:
    """Frames and handshakes, and what they have come to. Strays are events that are neither."""

    handshakes: Counter[int] = field(default_factory=Counter)
    frames: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By dialect, "none" where it is in none, and by code, "ok" where there is none."""
    commands: Counter[str] = field(default_factory=Counter)
    strays: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    deliveries: int = 0

    def handshake(self, status: int) -> None:
        self.handshakes[status] += 1

    def frame(self, meaning: Meaning, code: str | None) -> None:
        self.frames[meaning.dialect or "none", code or "ok"] += 1
        if meaning.command and not code:
            self.commands[meaning.command] += 1

    @property
    def events(self) -> int:
        """Frames and handshakes."""
        return self.frames.total() + self.handshakes.total()

    @property
    def codes(self) -> set[str]:
        return {code for _dialect, code in self.frames}

    def missing(self) -> list[str]:
        """What there is, and no event has reached."""
        return [
            *(f"status {status}" for status in (200, 401, 403) if not self.handshakes[status]),
            *(f"dialect {one.name}" for one in DIALECTS if not self.frames[one.name, "ok"]),
            *(f"command {kind.__name__}" for kind in get_args(Command) if not self.commands[kind.__name__]),
            *(f"code {code}" for code in sorted(codes_of_clients() - self.codes)),
            *(["a delivery"] if not self.deliveries else []),
            *(["a connection closed for its conduct"] if not self.closed else []),
        ]

    def table(self) -> Iterator[str]:
        """Lines of a table."""
        dialects = sorted({dialect for dialect, _code in self.frames})
        yield f"{self.frames.total():,} frames, {self.handshakes.total():,} handshakes"
        yield "  ".join(f"{status}: {number:,}" for status, number in sorted(self.handshakes.items()))
        yield f"{'':18}" + "".join(f"{dialect:>15}" for dialect in dialects) + f"{'all':>12}"
        codes = sorted(self.codes, key=lambda code: (code != "ok", code))
        for code in codes:
            numbers = [self.frames[dialect, code] for dialect in dialects]
            yield (
                f"{code:18}"
                + "".join(f"{number:>15,}" if number else f"{'·':>15}" for number in numbers)
                + f"{sum(numbers):>12,}"
            )
        yield "commands carried out: " + ", ".join(
            f"{name} {number:,}" for name, number in sorted(self.commands.items())
        )
        yield "strays: " + ", ".join(f"{name} {number:,}" for name, number in sorted(self.strays.items()))
        yield f"messages delivered: {self.deliveries:,}; connections closed for their conduct: {self.closed:,}"


def codes_of_clients(root: type[ClientError] = ClientError) -> set[str]:
    """The codes of all errors that a frame can be answered with while nothing fails."""
    own = set() if root in NOT_FOR_CLIENTS else {root.code}
    return own.union(*(codes_of_clients(kind) for kind in root.__subclasses__()))
