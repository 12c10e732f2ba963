"""The machine: one core for what is measured, the other for what it talks to, and processes that talk in lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

NODE = shutil.which("node")

_KEPT = ("PATH", "HOME", "TMPDIR", "LANG")

_AVAILABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SINK_CORE, CLIENT_CORE = _AVAILABLE[:2] if len(_AVAILABLE) > 1 else (None, None)
"""None where processes cannot be pinned to cores, or where there is only one."""


PRIORITY = -10
"""Of what is measured over what else this machine does, where that may be set: by root on Linux. A process that takes
half of the senders' core doubles the CPU of a send, as threads wait for each other longer and caches get cold.
"""


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes that are started in the block run on that core alone, with PRIORITY, from first to last instruction."""
    if core is None:
        yield
        return
    cores, priority = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    os.sched_setaffinity(0, {core})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, priority)
        os.sched_setaffinity(0, cores)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a measured process gets to see: bare necessities, nobody's credentials, and `more`."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        **more,
    }


class Child:
    """A process that takes a JSON line on stdin and answers it with one on stdout, and ends with its stdin."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], core: int | None) -> None:
        self._command = command
        with on_core(core):
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )

    @classmethod
    def python(cls, module: str, *arguments: str, env: Mapping[str, str], core: int | None) -> Child:
        """A module of ours, in a fresh interpreter of this kind."""
        return cls([sys.executable, "-m", module, *arguments], env, core)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **question: Any) -> Any:
        """Its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        """The next line that it says. Raises RuntimeError if it ends instead; its stderr is ours and says why."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command[:5])} ended with exit code {self._process.wait()}")
        return json.loads(line)

    def close(self) -> int:
        """Ends it; returns its exit code."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            return self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
