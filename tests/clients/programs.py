"""Programs that the tests need and this machine may not have: Chromium, Node, and what `npm ci` installs.

A missing program skips the test with a line that says how to install it; in CI (CI=true) it fails instead, so that
nothing is ever skipped silently where it counts.
"""

from __future__ import annotations

import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
SECONDS_TO_START = 15
SECONDS_TO_ANSWER = 20


def chromium() -> str:
    """The path of a Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing("Chromium is not here: `apt-get install chromium` installs it")


def node() -> str:
    """The path of Node."""
    return shutil.which("node") or missing("Node is not here: install Node 20 or newer, from https://nodejs.org")


def installed(path: str) -> str:
    """The path of a file that `npm ci` puts into node_modules."""
    node()
    found = HERE / "node_modules" / path
    if not found.exists():
        missing(f"{path} is not in node_modules: `cd tests/clients && npm ci --ignore-scripts` installs it")
    return str(found)


def missing(why: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def reference_server() -> Iterator[str]:
    """y-webrtc's own signaling server, as its package brings it. Yields its ws:// address."""
    command = [node(), installed("y-webrtc/bin/server.js")]
    port = _free_port()
    with subprocess.Popen(
        command, env={**os.environ, "PORT": str(port)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            _wait_until_it_listens(server, port)
            yield f"ws://127.0.0.1:{port}/"
        finally:
            server.kill()


class Talker:
    """A running program that reads lines and prints lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._printed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read)

    def write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line that it prints. Raises queue.Empty if there is none within SECONDS_TO_ANSWER."""
        return self._printed.get(timeout=SECONDS_TO_ANSWER)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._printed.put(line.rstrip("\n"))


@contextmanager
def talking(*command: str) -> Iterator[Talker]:
    """Runs a program for as long as the block lasts."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=HERE
    ) as process:
        talker = Talker(process)
        talker.reader.start()
        try:
            yield talker
        finally:
            process.kill()
            talker.reader.join()


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_until_it_listens(server: subprocess.Popen[str], port: int) -> None:
    give_up = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None:
                assert server.stderr
                raise AssertionError(f"the reference server ended: {server.stderr.read()}") from None
            if time.monotonic() > give_up:
                raise AssertionError(f"the reference server did not listen in {SECONDS_TO_START} s") from None
            time.sleep(0.02)
        else:
            return
