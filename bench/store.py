"""The store that measurements run on: dynalite, since there a page costs the same in a table of any size, as on AWS."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from localaws import dynamodb
from tests.server import ROOT

DYNALITE = ROOT / "tests/clients/node_modules/dynalite"

_PROGRAM = """
const server = require(process.argv[1])({ createTableMs: 0 });
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit());
"""
"""Says its port, and ends with its stdin, and so with the process that started it, whatever ended that."""


@dataclass(frozen=True)
class Store:
    """A DynamoDB-compatible store that serves."""

    name: str
    endpoint: str


@contextmanager
def running_store() -> Iterator[Store]:
    """dynalite where Node and node_modules are there, else ministack; ends with the block."""
    if DYNALITE.exists() and shutil.which("node"):
        with _dynalite() as endpoint:
            yield Store("dynalite", endpoint)
    else:
        with dynamodb.Store() as ministack:
            yield Store("ministack", ministack.endpoint)


@contextmanager
def _dynalite() -> Iterator[str]:
    # It ends with a traceback when a client is killed amid a request, which is how measurements end.
    with subprocess.Popen(
        ["node", "-e", _PROGRAM, str(DYNALITE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError(f"dynalite did not start; `node -e 'require(\"{DYNALITE}\")()'` says why.")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
