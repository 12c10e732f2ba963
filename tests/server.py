"""The server as its users run it: a real process, real sockets, a port of its own.

Knows how to start one, wait until it serves, and see to it that nothing of it is left. Knows nothing of channels.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests import recorder

ROOT = Path(__file__).resolve().parent.parent

OVERTAKING = {"LOCALAWS_FAULTS": '{"rules": [{"at": "frame", "do": "delay", "ms": "0-80"}]}'}
"""Has each frame wait a random time, so that frames of one socket are handled in any order, as Lambda may do it."""

START_S = 60.0
STOP_S = 20.0

_PLAIN = ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", recorder.VARIABLE)


@dataclass(frozen=True)
class Server:
    """A server that serves."""

    port: int
    process: subprocess.Popen[bytes]
    store: str
    """The table's endpoint."""
    _log: Path

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """All that it has printed so far, to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_server(
    *, env: Mapping[str, str] | None = None, project: Path = ROOT, args: Sequence[str] = ()
) -> Iterator[Server]:
    """`make run` without make: `python -m localaws` on a free port, in an environment without any AWS_* variable.

    `args` are more options of `chalice local`; "--autoreload" turns on what is off otherwise. At the end the process
    gets SIGTERM, and an AssertionError says so if anything of it stays.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        process = start(project, log, env=env, args=args)
        try:
            yield wait_until_served(process, log)
        finally:
            stop(process, log)


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a server's process gets to see: this shell's bare necessities, and `env`."""
    plain = {name: os.environ[name] for name in _PLAIN if name in os.environ}
    # chalice loads the project's app.py, but localaws is this repository's.
    path = os.pathsep.join([*([str(recorder.SITE)] if recorder.VARIABLE in plain else []), str(ROOT)])
    return {**plain, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}


def start(
    project: Path, log: Path, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a server whose output goes to `log`, and do not wait for it."""
    command = [sys.executable, "-m", "localaws", "--port", "0", "--no-autoreload", *args]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=project,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_until_served(process: subprocess.Popen[bytes], log: Path) -> Server:
    """The server, once it says where it is. AssertionError with its log if it ends, or says nothing for START_S."""
    deadline = time.monotonic() + START_S
    while True:
        text = log.read_text(encoding="utf-8", errors="replace")
        # The greeting's last line: what stands above it is complete.
        if "Ctrl-C stops." in text:
            port = re.search(r"ws://[^ ]*:(\d+)/", text)
            store = re.search(r"^ +table .* at (http\S+)", text, re.MULTILINE)
            assert port is not None and store is not None, text
            return Server(int(port[1]), process, store[1], log)
        assert process.poll() is None, f"the server ended with {process.returncode}:\n{text}"
        assert time.monotonic() < deadline, f"the server does not serve after {START_S} s:\n{text}"
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """End a server with SIGTERM, and all that it has started. AssertionError if it leaves something behind."""
    family = descendants(process.pid)
    process.terminate()
    _, left = psutil.wait_procs(family, STOP_S)
    for straggler in left:
        straggler.kill()
    process.wait(STOP_S)
    assert not left, f"still there {STOP_S} s after SIGTERM: {left}\n{log.read_text(errors='replace')}"


def descendants(pid: int) -> list[psutil.Process]:
    """The process and all that it has started; none if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
