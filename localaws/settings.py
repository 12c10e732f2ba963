"""LOCALAWS_* and PERSIST from the environment, parsed once into one frozen Settings.

Knows no other variable: those that AWS SDKs read are environment.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localaws.errors import StartupError
from localaws.faults import Plan, PlanError
from localaws.limits import (
    CONNECTION_S,
    CONNECTS_PER_SECOND,
    IDLE_S,
    INTEGRATION_TIMEOUT_S,
    REQUESTS_AT_ONCE,
    REQUESTS_PER_SECOND,
)

_MOST = 1_000_000
_WAIT_MS = INTEGRATION_TIMEOUT_S * 1000


@dataclass(frozen=True)
class Settings:
    """How the stand-ins behave."""

    threads: int = 256
    """LOCALAWS_THREADS: invocations at the same time; Lambda's account limit of concurrent executions, in small."""

    serial_frames: bool = False
    """LOCALAWS_SERIAL_FRAMES=1: the frames of one socket one after the other, in order, as Lambda does not."""

    seed: int | None = None
    """LOCALAWS_SEED: the seed of faults whose plan names none."""

    idle_s: float = IDLE_S
    """LOCALAWS_IDLE_MS: how long a connection lasts without a message, either way."""

    life_s: float = CONNECTION_S
    """LOCALAWS_LIFE_MS: how long a connection lasts in any case."""

    request_s: float = 60.0
    """LOCALAWS_REQUEST_MS: how long a client may take to send a request's headers, the first or the next."""

    signatures: bool = True
    """LOCALAWS_SIGNATURES=0: anybody may post to connections and invoke functions, without signing it."""

    request_rate: int = REQUESTS_PER_SECOND
    """LOCALAWS_REQUEST_RATE: frames, posts, handshakes and HTTP requests a second, together; 0: as many as come."""

    request_burst: int = REQUESTS_AT_ONCE
    """LOCALAWS_REQUEST_BURST: how many of them may come at once."""

    connect_rate: int = CONNECTS_PER_SECOND
    """LOCALAWS_CONNECT_RATE: handshakes a second; 0: as many as come."""

    integration_s: float | None = INTEGRATION_TIMEOUT_S
    """LOCALAWS_INTEGRATION_MS: how long a client waits for a function; 0 (None here): until its own timeout."""

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
            seed=_whole(environ, "LOCALAWS_SEED", 0, 2**63),
            idle_s=_seconds(environ, "LOCALAWS_IDLE_MS") or cls.idle_s,
            life_s=_seconds(environ, "LOCALAWS_LIFE_MS") or cls.life_s,
            request_s=_seconds(environ, "LOCALAWS_REQUEST_MS") or cls.request_s,
            signatures=_whole(environ, "LOCALAWS_SIGNATURES", 0, 1) != 0,
            request_rate=_zero_or_more(environ, "LOCALAWS_REQUEST_RATE", _MOST, cls.request_rate),
            request_burst=_whole(environ, "LOCALAWS_REQUEST_BURST", 1, _MOST) or cls.request_burst,
            connect_rate=_zero_or_more(environ, "LOCALAWS_CONNECT_RATE", _MOST, cls.connect_rate),
            integration_s=_zero_or_more(environ, "LOCALAWS_INTEGRATION_MS", _WAIT_MS, _WAIT_MS) / 1000 or None,
            persist=project / persist if persist else None,
            faults=_plan(environ, "LOCALAWS_FAULTS"),
            workers=_whole(environ, "LOCALAWS_WORKERS", 0, 1_000) or cls.workers,
        )


def _zero_or_more(environ: Mapping[str, str], name: str, most: int, default: int) -> int:
    """For settings where 0 says something."""
    given = _whole(environ, name, 0, most)
    return default if given is None else given


def _whole(environ: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    # Python itself refuses to read thousands of digits.
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not (digits and least <= int(text) <= most):
        raise StartupError(f"{name} takes a whole number from {least} to {most}, not {text!r}.")
    return int(text)


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    ms = _whole(environ, name, 1, 86_400_000)
    return None if ms is None else ms / 1000


def _plan(environ: Mapping[str, str], name: str) -> Plan | None:
    text = environ.get(name, "")
    try:
        return Plan.parse(text) if text else None
    except PlanError as error:
        raise StartupError(f"{name}: {error}") from None
