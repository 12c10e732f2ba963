"""LOCALAWS_* and PERSIST from the environment, parsed once into one frozen Settings.

Knows no other variable: those that AWS SDKs read are environment.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localaws.errors import StartupError
from localaws.faults import Plan, PlanError


@dataclass(frozen=True)
class Settings:
    """How the stand-ins behave."""

    threads: int = 256
    """LOCALAWS_THREADS: invocations at the same time; Lambda's account limit of concurrent executions, in small."""

    serial_frames: bool = False
    """LOCALAWS_SERIAL_FRAMES=1: the frames of one socket one after the other, in order, as Lambda does not."""

    frame_delay_s: tuple[float, float] = (0.0, 0.0)
    """LOCALAWS_FRAME_DELAY_MS=0-80: each frame waits a random time in this range, to provoke Lambda's reorderings."""

    seed: int | None = None
    """LOCALAWS_SEED: the seed of those random times, and of faults whose plan names none."""

    persist: Path | None = None
    """PERSIST: the folder that keeps the store's data, relative to the project; in memory without one."""

    faults: Plan | None = None
    """LOCALAWS_FAULTS: what goes wrong on purpose; "{}" is nothing yet, with the control open."""

    workers: int = 0
    """LOCALAWS_WORKERS: processes that run one event at a time each, as Lambda's do; 0 runs them in threads."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], project: Path) -> Settings:
        """Parse. Raises StartupError that names the variable, what it takes and what came."""
        persist = environ.get("PERSIST")
        return cls(
            threads=_whole(environ, "LOCALAWS_THREADS", 1, 10_000) or cls.threads,
            serial_frames=bool(_whole(environ, "LOCALAWS_SERIAL_FRAMES", 0, 1)),
            frame_delay_s=_delay(environ, "LOCALAWS_FRAME_DELAY_MS"),
            seed=_whole(environ, "LOCALAWS_SEED", 0, 2**63),
            persist=project / persist if persist else None,
            faults=_plan(environ, "LOCALAWS_FAULTS"),
            workers=_whole(environ, "LOCALAWS_WORKERS", 0, 1_000) or cls.workers,
        )


def _whole(environ: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise StartupError(f"{name} takes a whole number from {least} to {most}, not {text!r}.")
    return int(text)


def _delay(environ: Mapping[str, str], name: str) -> tuple[float, float]:
    text = environ.get(name, "")
    if not text:
        return (0.0, 0.0)
    least, _, most = text.partition("-")
    try:
        bounds = (float(least) / 1000, float(most or least) / 1000)
    except ValueError:
        bounds = (-1.0, -1.0)
    if not 0 <= bounds[0] <= bounds[1] <= 60:  # noqa: PLR2004  NaN and inf end here too
        raise StartupError(f"{name} takes milliseconds like 50 or 0-80, 60000 at most, not {text!r}.")
    return bounds


def _plan(environ: Mapping[str, str], name: str) -> Plan | None:
    text = environ.get(name, "")
    try:
        return Plan.parse(text) if text else None
    except PlanError as error:
        raise StartupError(f"{name}: {error}") from None
