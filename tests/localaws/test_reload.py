"""What restarts the server: sources that change. What its clients see: 1001, and a server again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chalice.cli.filewatch.stat import StatFileWatcher
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

import localaws  # noqa: F401  patches the watcher
from tests.localaws.tiny import RECORDER, served, until, write_project


class Watch:
    """chalice's own watcher, polled by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watcher = StatFileWatcher()
        self.watcher._seed_mtime_cache(str(root))

    def sees_a_change(self) -> bool:
        changes: list[bool] = []
        self.watcher._single_pass_poll(str(self.root), lambda: changes.append(True))
        return bool(changes)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("app.py", "helper.py", "chalicelib/deep/down.py", ".chalice/config.json", "localaws/index.html"):
        write(tmp_path / name)
    for name in (
        ".venv/lib/a.py",
        ".git/index",
        "tests/test_a.py",
        "chalicelib/__pycache__/down.pyc",
        "kept/dynamodb.json",
    ):
        write(tmp_path / name)
    return tmp_path


def write(path: Path) -> None:
    """Write a file so that its time of change is another one than before, however fast this is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime if path.exists() else 0
    path.write_text("changed")
    os.utime(path, (before + 10, before + 10))


def test_the_first_look_at_an_unchanged_project_sees_no_change(project: Path) -> None:
    watch = Watch(project)
    assert not watch.sees_a_change()
    assert not watch.sees_a_change()


SOURCES = ["app.py", "helper.py", "new.py", "chalicelib/deep/down.py", "chalicelib/new/new.py", ".chalice/config.json"]


@pytest.mark.parametrize("looked_before", [False, True])
@pytest.mark.parametrize("name", [*SOURCES, "localaws/index.html"])
def test_a_source_that_changes_or_appears_is_seen_once(project: Path, name: str, looked_before: bool) -> None:
    watch = Watch(project)
    if looked_before:
        watch.sees_a_change()
    write(project / name)
    assert watch.sees_a_change()
    assert not watch.sees_a_change()


def test_a_source_that_goes_away_is_seen(project: Path) -> None:
    watch = Watch(project)
    watch.sees_a_change()
    (project / "chalicelib/deep/down.py").unlink()
    assert watch.sees_a_change()


OTHERS = [
    ".venv/lib/a.py",
    ".venv/new.py",
    ".git/index",
    "node_modules/a/a.py",
    "tests/test_a.py",
    "bench/a.py",
    "docs/a.py",
    "chalicelib/__pycache__/new.pyc",
    ".chalice/deployed/dev.json",
    "kept/dynamodb.json",
    ".app.py.swp",
    "README.md",
]


@pytest.mark.parametrize("looked_before", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is(project: Path, name: str, looked_before: bool) -> None:
    watch = Watch(project)
    if looked_before:
        watch.sees_a_change()
    write(project / name)
    assert not watch.sees_a_change()


def test_a_reload_closes_clients_with_1001_and_serves_the_new_code_at_the_same_port(
    tmp_path: Path, unused_port: int
) -> None:
    with served(tmp_path, args=["--autoreload", "--port", str(unused_port)]) as tiny:
        with connect(tiny.url) as client:
            connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
            write_project(tmp_path, RECORDER.replace("event.body)", "'new ' + event.body)"))
            with pytest.raises(ConnectionClosedOK) as closed:
                client.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Going away")
        context = tiny.event("DISCONNECT", connection_id)["requestContext"]
        assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1001, "Going away")
        served_twice = until(
            lambda: tiny.server.log().count("Ctrl-C stops.") == 2 or None, "the reload", tiny.server.log
        )
        assert served_twice
        with connect(tiny.url) as client:
            client.send("code")
            assert client.recv(timeout=20) == "new code"


def test_an_app_that_breaks_is_shown_with_its_traceback_and_served_again_once_it_is_mended(
    tmp_path: Path, unused_port: int
) -> None:
    with served(tmp_path, args=["--autoreload", "--port", str(unused_port)]) as tiny:
        write_project(tmp_path, "raise RuntimeError('broken app')")
        until(lambda: "RuntimeError: broken app" in tiny.server.log() or None, "the traceback", tiny.server.log)
        write_project(tmp_path)
        until(lambda: tiny.server.log().count("Ctrl-C stops.") == 2 or None, "the mended app", tiny.server.log)
        with connect(tiny.url) as client:
            client.send("hello")
            assert client.recv(timeout=20) == "hello"
