"""`make soak`: CLIENTS clients (1,000) on a server under faults, busy for SOAK seconds (300).

SEED=n draws the same again. With WORKERS=n functions run in so many processes, some of which are killed. Ends with 1
where a rule was broken, and says which and the seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time

from tests.server import running_server

from . import faults
from .crowd import Size
from .report import broken, table
from .run import Plan, Progress, Soak

SECONDS, CLIENTS = 300, 1_000
DELIVERIES_PER_SECOND = 400.0
LIFE_S = 120.0

EACH_S = 10.0
"""How often a line is told where it cannot be told again and again on a terminal."""


class Line:
    """One line, rewritten on a terminal; elsewhere a line each 10 s and whenever a phase begins."""

    def __init__(self) -> None:
        self._again = sys.stdout.isatty()
        self._told_at = 0.0
        self._phase = ""

    def __call__(self, progress: Progress) -> None:
        text = (
            f"{progress.seconds:4.0f} s  {progress.phase}: {progress.present:,} clients, "
            f"{progress.messages:,} messages, {progress.deliveries:,} deliveries, {progress.faults:,} faults, "
            f"server {progress.server_bytes / 1e6:,.0f} MB"
        )
        if self._again:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif time.monotonic() - self._told_at > EACH_S or progress.phase != self._phase:
            self._told_at, self._phase = time.monotonic(), progress.phase
            print(text, flush=True)

    def end(self) -> None:
        """Leaves the line as it is."""
        if self._again:
            print()


def main() -> int:
    seed = _whole("SEED", random.SystemRandom().randrange(1_000_000_000))
    seconds, clients = _whole("SOAK", SECONDS), _whole("CLIENTS", CLIENTS)
    workers = _whole("WORKERS", 0)
    again = f"SEED={seed} SOAK={seconds} CLIENTS={clients} WORKERS={workers}"
    print(again, flush=True)
    rules = [*faults.CALM, *(faults.KILLS if workers else [])]
    plan = Plan(seed, seconds, Size(clients, DELIVERIES_PER_SECOND, LIFE_S), prunes=True, rules=rules)
    line = Line()
    with running_server(env=faults.environment(workers)) as server:
        try:
            outcome = asyncio.run(Soak(server, plan, line).run())
        finally:
            line.end()
        print("", *table(outcome), sep="\n")
        failures = broken(outcome)
        if failures:
            print(
                "", *failures, "", f"{again} make soak", f"The server's log is kept in {_keep(server.log())}", sep="\n"
            )
    return 1 if failures else 0


def _keep(log: str) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="soak-", suffix=".log", delete=False, encoding="utf-8") as kept:
        kept.write(log)
    return kept.name


def _whole(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and text):
        sys.exit(f"{name} takes a whole number, not {text!r}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
