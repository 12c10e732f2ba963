"""No process stays behind, whichever of them is killed, and however."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.localaws.tiny import RECORDER, Tiny, write_project
from tests.server import environment, wait_until_served

CHALICE = Path(sys.executable).with_name("chalice")

GONE_S = 20.0

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


@contextmanager
def family(project: Path, command: list[str], size: int) -> Iterator[tuple[Tiny, list[psutil.Process]]]:
    """A server started by `command`, in a session of its own, with its processes from the first to the store."""
    log = project / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    line = [psutil.Process(process.pid)]
    try:
        server = wait_until_served(process, log)
        while children := line[-1].children():
            line += children
        assert len(line) == size, line
        yield Tiny(server, project), line
    finally:
        left = [each for each in line if each.is_running()]
        for each in left:
            each.kill()
        process.wait(GONE_S)


def all_gone(line: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(line, GONE_S)[1]


def write_makefile(project: Path) -> None:
    """A `make run` like the project's own."""
    (project / "Makefile").write_text(f"run:\n\t@exec {sys.executable} -m localaws --port 0\n")


CHAIN = ["make", "launcher", "worker", "store"]

# SIGINT to make alone is not among them: make leaves it to its recipe, which a terminal's Ctrl-C would have reached.
KILLS = [(victim, how) for victim in CHAIN for how in SIGNALS if (victim, how) != ("make", signal.SIGINT)]


@pytest.mark.parametrize(("victim", "how"), KILLS, ids=lambda each: getattr(each, "name", each))
def test_whichever_of_make_runs_processes_is_killed_all_end(tmp_path: Path, victim: str, how: signal.Signals) -> None:
    write_project(tmp_path)
    write_makefile(tmp_path)
    with family(tmp_path, ["make", "run"], 4) as (_, line):
        line[CHAIN.index(victim)].send_signal(how)
        assert all_gone(line)


def test_plain_chalice_local_leaves_nothing_behind_when_its_parent_process_is_killed(tmp_path: Path) -> None:
    write_project(tmp_path)
    with family(tmp_path, [str(CHALICE), "local", "--port", "0"], 3) as (_, line):
        line[0].kill()
        assert all_gone(line)


COMMANDS = {
    "make run": (["make", "run"], 4),
    "localaws": ([sys.executable, "-m", "localaws", "--port", "0"], 3),
    "localaws without reload": ([sys.executable, "-m", "localaws", "--port", "0", "--no-autoreload"], 2),
    "chalice local": ([str(CHALICE), "local", "--port", "0"], 3),
    "chalice local without reload": ([str(CHALICE), "local", "--port", "0", "--no-autoreload"], 2),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_says_going_away_to_clients_runs_disconnect_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    write_project(tmp_path)
    write_makefile(tmp_path)
    command, size = COMMANDS[name]
    with family(tmp_path, command, size) as (tiny, line), connect(tiny.url) as client:
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        os.killpg(line[0].pid, signal.SIGINT)  # as a terminal does: to all of them, except the store
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=GONE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        context = tiny.event("DISCONNECT", connection_id)["requestContext"]
        assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1001, "Going away")
        assert all_gone(line)
        assert "Traceback" not in tiny.server.log()


def test_a_disconnect_handler_may_take_longer_than_chalices_parent_process_waits(tmp_path: Path) -> None:
    # It sends its worker SIGTERM a quarter of a second after Ctrl-C.
    slow = RECORDER.replace(
        "def websocket_disconnect(event):\n", "def websocket_disconnect(event):\n    time.sleep(1)\n"
    )
    write_project(tmp_path, slow)
    command, size = COMMANDS["chalice local"]
    with family(tmp_path, command, size) as (tiny, line), connect(tiny.url):
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        os.killpg(line[0].pid, signal.SIGINT)
        assert tiny.event("DISCONNECT", connection_id)
        assert all_gone(line)
        assert "unexpectedly" not in tiny.server.log()  # the store ends after the server, not at the same Ctrl-C


@pytest.mark.parametrize("name", ["localaws", "localaws without reload"])
def test_sigterm_is_as_good_as_ctrl_c(tmp_path: Path, name: str) -> None:
    write_project(tmp_path)
    command, size = COMMANDS[name]
    with family(tmp_path, command, size) as (tiny, line), connect(tiny.url) as client:
        tiny.server.process.terminate()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=GONE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert tiny.server.process.wait(GONE_S) == 0
        assert all_gone(line)


@pytest.mark.parametrize("name", ["localaws", "localaws without reload"])
def test_a_store_that_dies_ends_the_server_with_a_word_and_exit_code_1(tmp_path: Path, name: str) -> None:
    write_project(tmp_path)
    command, size = COMMANDS[name]
    with family(tmp_path, command, size) as (tiny, line):
        line[-1].kill()
        assert tiny.server.process.wait(GONE_S) == 1
        assert "localaws: the store ended unexpectedly (exit code -9)." in tiny.server.log()
        assert all_gone(line)


def test_a_worker_that_is_killed_gives_its_signal_as_exit_code(tmp_path: Path) -> None:
    write_project(tmp_path)
    command, size = COMMANDS["localaws"]
    with family(tmp_path, command, size) as (tiny, line):
        line[1].kill()
        assert tiny.server.process.wait(GONE_S) == 128 + signal.SIGKILL


def test_what_is_kept_is_saved_when_the_server_is_killed(tmp_path: Path) -> None:
    write_project(tmp_path)
    # PERSIST is the user's; it is relative to the project.
    command = ["env", "PERSIST=kept", *COMMANDS["localaws"][0]]
    with family(tmp_path, command, 3) as (_, line):
        assert not (tmp_path / "kept" / "dynamodb.json").exists()
        line[1].kill()
        assert all_gone(line)
    assert (tmp_path / "kept").is_dir()
