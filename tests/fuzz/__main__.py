"""`make fuzz`: rounds of FUZZ frames and handshakes in all, a million. SEED=n begins where another run has failed."""

from __future__ import annotations

import os
import random
import sys
import time

from .rounds import play
from .tally import ENOUGH, Tally, codes_of_clients

A_MILLION = 1_000_000
PROGRESS_SECONDS = 10


def main() -> int:
    wanted = int(os.environ.get("FUZZ") or A_MILLION)
    first = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000_000))
    tally, started = Tally(), time.monotonic()
    shown, seed = started, first
    print(f"SEED={first} FUZZ={wanted}", flush=True)
    while tally.events < wanted:
        if finding := play(seed, tally):
            print(f"\nfailed after {tally.events:,} events: {finding}")
            return 1
        seed += 1
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            reached = f"{len(tally.codes & codes_of_clients())} of {len(codes_of_clients())} codes"
            print(f"{tally.events:>11,}  {tally.events / (shown - started):,.0f}/s  {reached}", flush=True)
    seconds = time.monotonic() - started
    print(f"\n{seconds:,.0f} s, {tally.events / seconds:,.0f} events/s", *tally.table(), sep="\n")
    missing = tally.missing() if tally.events >= ENOUGH else []
    if missing:
        print(f"\nnot reached: {', '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
