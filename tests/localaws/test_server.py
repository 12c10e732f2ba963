"""Starting: what is said when it works, and the one sentence and exit code 1 when it does not."""

from __future__ import annotations

import resource
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from websockets.sync.client import connect

from localaws import dynamodb
from localaws.dynamodb import Store
from tests import server
from tests.localaws.tiny import RECORDER, TABLE, served, write_project
from tests.server import ROOT


def failure(project: Path, env: Mapping[str, str] | None = None, args: tuple[str, ...] = ()) -> str:
    """What a server says that does not start; its exit code is 1 with and without a reloading parent."""
    log = project / "log"
    said = []
    for mode in ("--no-autoreload", "--autoreload"):
        with server.start(project, log, env=env, args=[mode, *args]) as process:
            try:
                assert process.wait(60) == 1, log.read_text()
            finally:
                process.terminate()
        said.append(log.read_text())
    assert said[0] == said[1]
    return said[0]


def with_table(project: Path) -> Path:
    write_project(project, config=TABLE)
    shutil.copy(ROOT / ".chalice" / "resources.json", project / ".chalice")
    return project


def test_the_greeting_says_where_everything_is(tmp_path: Path) -> None:
    with_table(tmp_path)
    with server.running_server(project=tmp_path) as running:
        assert running.log() == (
            "\ntiny is served here:\n\n"
            f"  browser    http://127.0.0.1:{running.port}/\n"
            f"  WebSocket  ws://127.0.0.1:{running.port}/  and  ws://127.0.0.1:{running.port}/api\n"
            f"  table      tiny-dev at {running.store} (in memory, PERSIST=folder keeps it)\n"
            "  keys       AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\n\n"
            "Ctrl-C stops.\n\n"
        )


def test_without_a_table_name_it_serves_all_the_same(tmp_path: Path) -> None:
    with served(tmp_path) as tiny, connect(tiny.url) as client:
        assert "table      none, for TABLE_NAME is not set; store at http" in tiny.server.log()
        client.send("hello")
        assert client.recv(timeout=20) == "hello"


def test_a_port_that_is_taken_is_named_with_the_way_to_another_and_no_store_is_started(tmp_path: Path) -> None:
    write_project(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # A store could not be kept in this folder: it would say so if it were asked to.
        (tmp_path / "file").touch()
        said = failure(tmp_path, {"PERSIST": "file/folder"}, ("--port", str(port)))
    assert said == (
        f"\nlocalaws: cannot listen on 127.0.0.1 port {port}: Address already in use.\n"
        "Choose another port with `PORT=9000 make run` or `chalice local --port 9000`.\n"
    )


@pytest.mark.parametrize("args", [("--port", "99999"), ("--host", "no.such.host.invalid")])
def test_an_address_that_is_none_is_named(tmp_path: Path, args: tuple[str, str]) -> None:
    write_project(tmp_path)
    assert f"{args[1]}" in failure(tmp_path, args=args)


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    write_project(tmp_path)
    said = failure(tmp_path, {"LOCALAWS_THREADS": "many"})
    assert said == "\nlocalaws: LOCALAWS_THREADS takes a whole number from 1 to 10000, not 'many'.\n"


def test_a_template_without_the_table_is_named(tmp_path: Path) -> None:
    write_project(tmp_path, config=TABLE)
    assert "localaws: the table is defined in " in failure(tmp_path)


def test_a_store_that_is_given_is_used_and_gets_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "local"), ("SECRET_ACCESS_KEY", "local"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with_table(tmp_path)
    with Store() as store:
        env = {"AWS_ENDPOINT_URL_DYNAMODB": store.endpoint}
        with server.running_server(env=env, project=tmp_path) as running:
            assert running.store == store.endpoint
            assert len(server.descendants(running.process.pid)) == 1
        assert dynamodb.connect(store.endpoint).list_tables()["TableNames"] == ["tiny-dev"]
        with server.running_server(env=env, project=tmp_path):
            pass


def test_a_given_store_that_does_not_answer_is_named(tmp_path: Path, unused_port: int) -> None:
    with_table(tmp_path)
    endpoint = f"http://127.0.0.1:{unused_port}"
    said = failure(tmp_path, {"AWS_ENDPOINT_URL_DYNAMODB": endpoint})
    assert f"localaws: the table tiny-dev cannot be made in the store at {endpoint}: Could not connect" in said
    assert "Traceback" not in said


def test_a_given_store_that_is_no_url_is_named(tmp_path: Path) -> None:
    with_table(tmp_path)
    said = failure(tmp_path, {"AWS_ENDPOINT_URL_DYNAMODB": "somewhere"})
    assert "AWS_ENDPOINT_URL_DYNAMODB takes a URL like http://127.0.0.1:4567, not 'somewhere'." in said


def test_another_host_than_loopback_is_served_with_a_warning(tmp_path: Path) -> None:
    with served(tmp_path, args=["--host", "0.0.0.0"]) as tiny, connect(tiny.url) as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
        assert "localaws: 0.0.0.0 is reachable from other machines" in tiny.server.log()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_the_ipv6_loopback_is_served_without_a_warning(tmp_path: Path) -> None:
    with served(tmp_path, args=["--host", "::1"]) as tiny, connect(f"ws://[::1]:{tiny.server.port}/") as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
        assert "reachable" not in tiny.server.log()


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be(tmp_path: Path) -> None:
    limits = "__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))  # the server inherits it
    try:
        with served(tmp_path, RECORDER.replace("event.body)", f"str({limits}))")) as tiny, connect(tiny.url) as client:
            client.send("limits")
            assert client.recv(timeout=20) == str((hard, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_key_without_its_secret_is_said_in_a_line(tmp_path: Path) -> None:
    env = {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "mine"}
    said = failure(with_table(tmp_path), env)
    assert "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both, or neither." in said
    assert "Traceback" not in said
