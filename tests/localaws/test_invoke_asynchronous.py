"""Asynchronous invocations: answered at once, tried three times, and waited for when the server stops."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from chalice.app import Chalice
from chalice.config import Config

from localaws import invoke
from localaws.functions import Functions, InThreads, Threads
from localaws.invoke import Invocations
from localaws.signatures import Signatures
from tests.localaws.invoked import call
from tests.localaws.tiny import Tiny, served, until

HANDLERS = """
def note(**what):
    with (here / "noted").open("a") as noted:
        noted.write(json.dumps(what) + "\\n")

@app.lambda_function(name="wait")
def wait(event, context):
    note(started=event)
    wait_for(event)
    if event == "until the end":
        time.sleep(1.5)  # longer than a server takes to end that does not wait
    note(ended=event)

@app.lambda_function(name="attempt")
def attempt(event, context):
    note(attempt=event, id=context.aws_request_id)
    attempts = [each for each in map(json.loads, (here / "noted").open()) if each.get("id") == context.aws_request_id]
    event["failures"] -= len(attempts)
    if event["failures"] >= 0:
        raise RuntimeError("this attempt fails")
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


def noted(project: Path, **what: object) -> list[dict[str, Any]]:
    """What the functions wrote down, of those notes that have these fields."""
    path = project / "noted"
    complete, _, _ = (path.read_text() if path.exists() else "").rpartition("\n")
    notes: list[dict[str, Any]] = [json.loads(line) for line in complete.splitlines()]
    return [note for note in notes if what.items() <= note.items()]


def wait_until_noted(tiny: Tiny, **what: object) -> list[dict[str, Any]]:
    return until(lambda: noted(tiny.project, **what) or None, f"a note of {what}", tiny.server.log)


def test_an_asynchronous_invocation_is_answered_before_the_function_ends(tiny: Tiny) -> None:
    answer = call(tiny, "wait", "later", InvocationType="Event")
    assert (answer["StatusCode"], answer["Payload"]) == (202, b"")
    assert "ExecutedVersion" not in answer
    wait_until_noted(tiny, started="later")
    assert not noted(tiny.project, ended="later")
    tiny.touch("later")
    wait_until_noted(tiny, ended="later")


def test_a_function_that_fails_is_run_three_times_with_the_same_event_and_id_and_then_given_up(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS) as tiny:
        answer = call(tiny, "attempt", {"failures": 9}, InvocationType="Event")
        request_id = answer["ResponseMetadata"]["RequestId"]
        line = f"The asynchronous invocation {request_id} of tiny-dev-attempt failed 3 times and is given up.\n"
        until(lambda: line in tiny.server.log() or None, "the end of it", tiny.server.log)
        assert tiny.server.log().count(line) == 1
        assert "RuntimeError: this attempt fails" in tiny.server.log()
    # The server has stopped: there are no more to come.
    assert noted(tmp_path, id=request_id) == [{"attempt": {"failures": 9}, "id": request_id}] * 3


def test_a_function_that_succeeds_the_second_time_is_run_twice(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS) as tiny:
        answer = call(tiny, "attempt", {"failures": 1}, InvocationType="Event")
        request_id = answer["ResponseMetadata"]["RequestId"]
        until(lambda: len(noted(tmp_path, id=request_id)) == 2 or None, "two attempts", tiny.server.log)
        # Others that fail three times begin after it and end before the server does.
        other = call(tiny, "attempt", {"failures": 9}, InvocationType="Event")["ResponseMetadata"]["RequestId"]
        until(lambda: f"{other} of tiny-dev-attempt failed 3 times" in tiny.server.log() or None, "another's end")
        assert f"{request_id} of" not in tiny.server.log()
    assert len(noted(tmp_path, id=request_id)) == 2


def test_a_function_is_repeated_as_often_as_its_resources_say(tmp_path: Path) -> None:
    with_none = {"Resources": {"Attempt": {"Properties": {"EventInvokeConfig": {"MaximumRetryAttempts": 0}}}}}
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "resources.json").write_text(json.dumps(with_none))
    with served(tmp_path, HANDLERS) as tiny:
        answer = call(tiny, "attempt", {"failures": 9}, InvocationType="Event")
        request_id = answer["ResponseMetadata"]["RequestId"]
        line = f"{request_id} of tiny-dev-attempt failed 1 times and is given up.\n"
        until(lambda: line in tiny.server.log() or None, "the end of it", tiny.server.log)
    assert len(noted(tmp_path, id=request_id)) == 1


def wait_until_refused(tiny: Tiny) -> None:
    """The server accepts no more connections: it has begun to stop."""

    def refused() -> bool | None:
        try:
            socket.create_connection(("127.0.0.1", tiny.server.port)).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it had not been accepted when the listener closed
            return None
        return None

    until(refused, "the server to stop", tiny.server.log)


def test_the_server_waits_for_an_asynchronous_invocation_before_it_stops(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS) as tiny:
        call(tiny, "wait", "until the end", InvocationType="Event")
        wait_until_noted(tiny, started="until the end")
        tiny.server.process.terminate()
        wait_until_refused(tiny)
        tiny.touch("until the end")
        tiny.server.process.wait(20)
        assert noted(tmp_path, ended="until the end")
        assert "has not ended" not in tiny.server.log()


def test_the_server_does_not_wait_for_ever_for_an_asynchronous_invocation(tmp_path: Path) -> None:
    handlers = """
@app.lambda_function(name="hang")
def hang(event, context):
    (here / "hangs").touch()
    threading.Event().wait()
"""
    with served(tmp_path, handlers) as tiny:
        request_id = call(tiny, "hang", InvocationType="Event")["ResponseMetadata"]["RequestId"]
        until(lambda: (tmp_path / "hangs").exists() or None, "the function to start", tiny.server.log)
        tiny.server.process.terminate()
        tiny.server.process.wait(20)
        line = f"The asynchronous invocation {request_id} of tiny-dev-hang has not ended: the server stops without it."
        assert line in tiny.server.log()


@asynccontextmanager
async def in_this_process(app: Chalice) -> AsyncIterator[tuple[Invocations, TestClient[Any, Any]]]:
    """The app's invocations behind a server of this process's, with one thread."""
    config = Config.create(app_name="tiny")
    invocations = Invocations(Functions(app, config, InThreads(Threads(1))), Signatures({}, checked=False))

    async def respond(request: web.Request) -> web.Response:
        return await invocations.respond(request, request.match_info["name"])

    gateway = web.Application()
    gateway.router.add_post("/{name}", respond)
    async with TestClient(TestServer(gateway)) as caller:
        yield invocations, caller


def test_a_failed_invocation_is_not_tried_again_once_the_server_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(invoke, "RETRY_AFTER_S", 3600)
    app = Chalice("tiny")
    attempts: list[str] = []

    @app.lambda_function()
    def fail(event: object, context: Any) -> None:
        attempts.append(context.aws_request_id)
        raise RuntimeError

    async def run() -> None:
        async with in_this_process(app) as (invocations, caller):
            answer = await caller.post("/tiny-dev-fail", headers={"X-Amz-Invocation-Type": "Event"})
            assert answer.status == 202
            await invocations.stop(20)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert len(attempts) == 1
    assert f"{attempts[0]} of tiny-dev-fail failed and is not tried again: the server stops." in caplog.text


def test_stopping_waits_for_what_an_ending_invocation_has_started(caplog: pytest.LogCaptureFixture) -> None:
    app = Chalice("tiny")
    go_on = threading.Event()
    ran: list[str] = []

    @app.lambda_function()
    def first(url: str, context: Any) -> None:
        assert go_on.wait(20)
        urlopen(Request(url, method="POST", headers={"X-Amz-Invocation-Type": "Event"}), timeout=20).close()
        ran.append("first")

    @app.lambda_function()
    def second(event: object, context: Any) -> None:
        ran.append("second")

    async def run() -> None:
        async with in_this_process(app) as (invocations, caller):
            url = str(caller.make_url("/tiny-dev-second"))
            await caller.post("/tiny-dev-first", json=url, headers={"X-Amz-Invocation-Type": "Event"})
            stopping = asyncio.create_task(invocations.stop(20))
            await asyncio.sleep(0)  # it waits for the first one now
            go_on.set()
            await stopping

    asyncio.run(asyncio.wait_for(run(), 20))
    assert ran == ["first", "second"]
    assert "has not ended" not in caplog.text
