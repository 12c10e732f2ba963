"""Faults in a server that runs with LOCALAWS_FAULTS: which are to be injected, and which have been."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias
from urllib.request import Request, urlopen

from tests.server import Server

from .programs import SECONDS_TO_ANSWER

Rule: TypeAlias = Mapping[str, Any]
"""One rule of a plan (localaws/faults.py)."""


@dataclass(frozen=True)
class Hit:
    """One fault that has been injected: by which rule of the plan, and into what."""

    rule: int
    at: str
    do: str
    detail: str

    DETAIL_CHARACTERS: ClassVar[int] = 256
    """How much of a text `detail` has."""


@dataclass(frozen=True)
class Faults:
    """The faults of a server since a plan of its began."""

    server: Server
    begin: int

    def hits(self) -> list[Hit]:
        """What has been injected, in order."""
        hits = _control(self.server, "GET", f"/hits?after={self.begin}")["hits"]
        return [Hit(hit["rule"], hit["at"], hit["do"], hit["detail"]) for hit in hits]


@contextmanager
def injected(server: Server, rules: Sequence[Rule], seed: int = 0) -> Iterator[Faults]:
    """Lets these rules apply while the block lasts, and no others. The same seed draws the same again."""
    begin = _control(server, "GET", "/hits")["last"]
    _control(server, "PUT", "", {"seed": seed, "rules": list(rules)})
    try:
        yield Faults(server, begin)
    finally:
        _control(server, "DELETE", "")


def _control(server: Server, method: str, path: str, body: Any = None) -> Any:
    request = Request(f"{server.http}/_faults{path}", method=method, data=body and json.dumps(body).encode())
    with urlopen(request, timeout=SECONDS_TO_ANSWER) as response:
        return json.load(response)
