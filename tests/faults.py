"""Faults in a server that runs with LOCALAWS_FAULTS: which are to be injected, and which have been (docs/faults.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, TypeAlias

from localaws.faults import Hit

from .server import Server

Json: TypeAlias = dict[str, Any]
Rule: TypeAlias = Mapping[str, Any]
"""One rule of a plan."""

SEED = 7
ANSWER_S = 30.0

_NEVER = 10**18


@dataclass(frozen=True)
class Faults:
    """The faults of a server after that hit. Every function raises AssertionError if it answers with an error."""

    server: Server
    after: int

    def hits(self) -> list[Hit]:
        """What has been injected, oldest first."""
        return hits(self.server, self.after)


@contextmanager
def injected(server: Server, rules: Sequence[Rule], seed: int = SEED) -> Iterator[Faults]:
    """Lets these rules apply while the block lasts, and no others."""
    try:
        yield Faults(server, inject(server, *rules, seed=seed))
    finally:
        lift(server)


def inject(server: Server, *rules: Rule, seed: int = SEED) -> int:
    """Have these rules apply, and no others; the same seed draws the same again. Returns the last hit before them."""
    last = _asked(server, "GET", f"/_faults/hits?after={_NEVER}")["last"]
    _asked(server, "PUT", "/_faults", json.dumps({"seed": seed, "rules": rules}))
    return int(last)


def lift(server: Server) -> None:
    """None from now on; what is frozen thaws."""
    assert _asked(server, "DELETE", "/_faults")["rules"] == []


def hits(server: Server, after: int = 0) -> list[Hit]:
    """What has been injected after that hit, oldest first. The server keeps 100,000."""
    return [Hit(**hit) for hit in _asked(server, "GET", f"/_faults/hits?after={after}")["hits"]]


def ask(
    server: Server, method: str, path: str, body: str | bytes = "", headers: Mapping[str, str] | None = None
) -> tuple[int, Json]:
    """The status and JSON of an answer of the control's."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _asked(server: Server, method: str, path: str, body: str = "") -> Json:
    status, said = ask(server, method, path, body)
    assert status == 200, said
    return said
