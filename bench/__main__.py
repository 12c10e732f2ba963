"""`make bench`: measures, prints tables, writes results.json, and says whether the bar is held.

`python -m bench sends quota` measures just these, and changes only their figures in results.json.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from bench import bar
from bench.report import Measured

if TYPE_CHECKING:
    from rich.progress import Progress

MEASUREMENTS = ("sends", "coldstart", "quota", "units", "endtoend")
"""Modules with a function `measure(quick, progress)`, in the order in which they are run."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "measurements", nargs="*", metavar="measurement", help=f"of {', '.join(MEASUREMENTS)}; else all"
    )
    parser.add_argument("--quick", action="store_true", help="within a minute, and so with more noise")
    arguments = parser.parse_args()
    if unknown := set(arguments.measurements) - set(MEASUREMENTS):
        parser.error(f"there is no measurement {min(unknown)!r}; there are {', '.join(MEASUREMENTS)}")
    names = [name for name in MEASUREMENTS if name in arguments.measurements or not arguments.measurements]

    from bench.console import Out  # noqa: PLC0415  what reads the arguments needs no rich

    out, began = Out(), time.monotonic()
    done = []
    for name in names:
        noise = Noise()
        with out.progress() as progress:
            measured = measure(name, arguments.quick, progress)
        for table in measured.tables:
            out.show(table)
        out.say(f"\n{name} {noise}")
        done.append(measured)
        bar.save(bar.gather(each.figures for each in done), keep=bool(arguments.measurements))
    figures = bar.gather(each.figures for each in done)
    out.show(bar.table(figures))
    failures = [failure for each in done for failure in each.failures] + [
        f"missed: {row}" for row in bar.missed(figures)
    ]
    for failure in failures:
        out.say(f"FAILED  {failure}")
    out.say(f"{time.monotonic() - began:.0f} s; the figures are in {bar.RESULTS.relative_to(bar.RESULTS.parents[1])}")
    return bool(failures)


def measure(name: str, quick: bool, progress: Progress) -> Measured:
    """One measurement; one that breaks is a failure, and the others are made all the same."""
    try:
        measured: Measured = importlib.import_module(f"bench.{name}").measure(quick, progress)
    except Exception as error:
        logging.exception("%s broke", name)
        return Measured([], {}, [f"{name} broke: {error or type(error).__name__}"])
    return measured


class Noise:
    """What else this machine did in the meantime: it stands in all figures."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._others = _others_cpu()

    def __str__(self) -> str:
        seconds, cores = time.monotonic() - self._began, os.cpu_count() or 1
        share = max(0.0, _others_cpu() - self._others) / seconds / cores
        return f"took {seconds:.0f} s; meanwhile other processes kept {share:.0%} of {cores} cores busy"


def _others_cpu() -> float:
    """Seconds of CPU that neither this process has used nor those that it started and that have ended."""
    machine, own = psutil.cpu_times(), os.times()
    busy = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0) - getattr(machine, "guest", 0.0)
    return float(busy) - own.user - own.system - own.children_user - own.children_system


if __name__ == "__main__":
    sys.exit(main())
