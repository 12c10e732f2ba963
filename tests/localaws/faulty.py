"""How tests have faults injected into a running server, and read what has been injected."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.localaws.tiny import RECORDER, Tiny, served

Json = dict[str, Any]

SEED = 7


@contextmanager
def faulty(folder: Path, handlers: str = RECORDER, *, plan: str = "{}", **more: Any) -> Iterator[Tiny]:
    """A server that takes faults."""
    env: Mapping[str, str] = more.pop("env", {})
    with served(folder, handlers, env={"LOCALAWS_FAULTS": plan, **env}, **more) as tiny:
        yield tiny


def inject(tiny: Tiny, *rules: Json, seed: int = SEED) -> int:
    """Have these rules run. Returns the number of the last hit before them."""
    status, said = control(tiny, "PUT", "/_faults", json.dumps({"seed": seed, "rules": rules}))
    assert status == 200, said
    return int(control(tiny, "GET", "/_faults/hits")[1]["last"])


def hits(tiny: Tiny, after: int = 0) -> list[Json]:
    """What has been injected since that hit, oldest first."""
    status, said = control(tiny, "GET", f"/_faults/hits?after={after}")
    assert status == 200, said
    injected: list[Json] = said["hits"]
    return injected


def control(
    tiny: Tiny, method: str, path: str, body: str | bytes = "", headers: Mapping[str, str] | None = None
) -> tuple[int, Json]:
    """The status and JSON of an answer."""
    connection = HTTPConnection("127.0.0.1", tiny.server.port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
