"""Functions in processes of their own: one event at a time, replaced when they end, gone with the server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from websockets.sync.client import connect

from tests import server
from tests.localaws.invoked import call, refusal, request, result
from tests.localaws.test_lifeline import all_gone
from tests.localaws.tiny import RECORDER, Tiny, served, until, write_project
from tests.server import wait_until_served

HANDLERS = (
    RECORDER.replace(
        "    app.websocket_api.send", '    if event.body == "die": os._exit(3)\n    app.websocket_api.send'
    )
    + """
import sys
from botocore.config import Config
count = 0

def note(**what):
    with (here / "noted").open("a") as noted:
        noted.write(json.dumps(what) + "\\n")

@app.lambda_function(name="who")
def who(event, context):
    global count
    count += 1
    note(pid=os.getpid(), began=event)
    if event:
        wait_for(event)
    print("printed", event)
    app.log.error("logged %s", event)
    return {
        "pid": os.getpid(),
        "count": count,
        "thread": threading.current_thread() is threading.main_thread(),
        "key": os.environ["AWS_ACCESS_KEY_ID"],
        "context": [context.function_name, context.aws_request_id, context.get_remaining_time_in_millis()],
        "local": [name for name in ("AWS_CHALICE_CLI_MODE", "CHALICE_WORKER") if name in os.environ],
    }

@app.lambda_function(name="fail")
def fail(event, context):
    if event == "exit":
        sys.exit(4)
    if event == "kill":
        os.kill(os.getpid(), 9)
    if event == "set":
        return {1, 2}
    raise ValueError("no such \\ud800 thing")

@app.lambda_function(name="sleep")
def sleep(event, context):
    note(pid=os.getpid(), began="sleep")
    time.sleep(60)

@app.lambda_function(name="ask")
def ask(event, context):
    client = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
    try:
        return json.loads(client.invoke(FunctionName="tiny-dev-who", Payload=b"null")["Payload"].read())["pid"]
    except client.exceptions.TooManyRequestsException as error:
        return str(error)
"""
)

CONFIG = {"stages": {"dev": {"lambda_functions": {"sleep": {"lambda_timeout": 1}}}}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    env = {"LOCALAWS_WORKERS": "2"}
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS, env=env, config=CONFIG) as running:
        yield running


def began(tiny: Tiny, event: str, count: int) -> list[dict[str, Any]] | None:
    """What functions noted when they began with this event, once there are so many."""
    path = tiny.project / "noted"
    complete, _, _ = (path.read_text() if path.exists() else "").rpartition("\n")
    notes = [note for note in map(json.loads, complete.splitlines()) if note["began"] == event]
    return notes if len(notes) >= count else None


def workers(tiny: Tiny) -> list[int]:
    """The worker processes' ids."""
    family = server.descendants(tiny.server.process.pid)
    return [each.pid for each in family if "localaws._worker_child" in each.cmdline()]


def test_events_run_in_a_child_process_in_its_main_thread_as_on_lambda(tiny: Tiny) -> None:
    told = result(tiny, "who")
    assert told["pid"] in workers(tiny)
    assert told["thread"]
    assert told["key"] in {"local1", "local2"}
    name, request_id, left_ms = told["context"]
    assert (name, len(request_id)) == ("tiny-dev-who", 36)
    assert 50_000 < left_ms <= 60_000
    assert told["local"] == [], "a worker's app has no sign of a laptop"


def test_an_idle_worker_is_used_again_before_another_is_started(tiny: Tiny) -> None:
    first, second = result(tiny, "who"), result(tiny, "who")
    assert (second["pid"], second["count"]) == (first["pid"], first["count"] + 1)


def test_what_a_worker_prints_and_logs_is_in_the_servers_log(tiny: Tiny) -> None:
    tiny.touch("a word")
    result(tiny, "who", "a word")
    log = tiny.server.log()
    assert "printed a word\n" in log
    assert "logged a word\n" in log


def test_each_runs_one_event_at_a_time_and_further_events_wait_their_turn(tiny: Tiny) -> None:
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(result, tiny, "who", "both") for _ in range(2)]
        both = until(lambda: began(tiny, "both", 2), "two events at the same time", tiny.server.log)
        assert len({note["pid"] for note in both}) == 2
        status, code, message = refusal(tiny, FunctionName="tiny-dev-who", Payload=b"null")
        assert (status, code) == (429, "TooManyRequestsException")
        assert "Each worker runs a function already; LOCALAWS_WORKERS sets how many there are." in message
        assert call(tiny, "who", "third", InvocationType="Event")["StatusCode"] == 202
        assert not began(tiny, "third", 1)
        tiny.touch("both")
        pids = {each.result()["pid"] for each in running}
    assert len(pids) == 2
    third = until(lambda: began(tiny, "third", 1), "the third event", tiny.server.log)
    assert third[0]["pid"] in pids
    tiny.touch("third")


def test_a_websocket_is_served_by_workers(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
        context = tiny.event("CONNECT")["requestContext"]
    assert tiny.event("DISCONNECT", context["connectionId"])


def test_a_frame_whose_worker_dies_is_answered_as_api_gateway_answers_and_the_worker_is_replaced(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send("die")
        assert json.loads(client.recv(timeout=20))["message"] == "Internal server error"
        client.send("hello")
        assert client.recv(timeout=20) == "hello"


@pytest.mark.parametrize(
    ("event", "kind", "said"),
    [
        (None, "ValueError", "no such \ud800 thing"),
        ("set", "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"),
        ("exit", "Runtime.ExitError", "RequestId: {id} Error: Runtime exited with error: exit status 4"),
        ("kill", "Runtime.ExitError", "RequestId: {id} Error: Runtime exited with error: signal: killed"),
    ],
)
def test_an_invoker_is_told_how_a_function_failed(tiny: Tiny, event: str | None, kind: str, said: str) -> None:
    before = result(tiny, "who")["pid"]
    answer = call(tiny, "fail", event)
    assert answer["FunctionError"] == "Unhandled"
    told = json.loads(answer["Payload"])
    assert (told["errorType"], told["errorMessage"]) == (kind, said.format(id=told["requestId"]))
    assert told["requestId"] == answer["ResponseMetadata"]["RequestId"]
    survived = kind != "Runtime.ExitError"
    assert (result(tiny, "who")["pid"] == before) == survived
    logged = "Traceback" if survived else f"{told['errorMessage']} (tiny-dev-fail)\n"
    assert logged in tiny.server.log()
    assert len(workers(tiny)) <= 2


def test_a_function_over_its_timeout_is_killed_and_its_worker_replaced(tiny: Tiny) -> None:
    answer = call(tiny, "sleep")
    told = json.loads(answer["Payload"])
    assert told["errorType"] == "Sandbox.Timedout"
    assert told["errorMessage"] == f"RequestId: {told['requestId']} Error: Task timed out after 1.00 seconds"
    (note,) = began(tiny, "sleep", 1) or []
    assert not psutil.pid_exists(note["pid"])
    assert result(tiny, "who")["count"] >= 1


def test_a_worker_that_has_died_leaves_no_descriptor_with_the_server(tiny: Tiny) -> None:
    call(tiny, "fail", "kill")
    result(tiny, "who")
    before = descriptors(tiny)
    for _ in range(5):
        call(tiny, "fail", "kill")
    result(tiny, "who")
    assert descriptors(tiny) <= before


def descriptors(tiny: Tiny) -> int:
    """Those that are no connections of the network."""
    server = psutil.Process(tiny.server.process.pid)
    return int(server.num_fds()) - len(server.net_connections())


def test_a_worker_that_ends_while_it_is_idle_is_replaced_and_nobody_notices(tiny: Tiny) -> None:
    result(tiny, "who")
    family = [psutil.Process(pid) for pid in workers(tiny)]
    assert family
    for worker in family:
        worker.kill()
    until(lambda: all(each.status() == psutil.STATUS_ZOMBIE for each in family) or None, "their end")
    assert result(tiny, "who")["count"] == 1


def test_a_function_may_wait_for_another_as_long_as_there_is_a_worker_for_it(tiny: Tiny) -> None:
    assert result(tiny, "ask") in workers(tiny)


def test_six_megabytes_pass_both_ways(tmp_path: Path) -> None:
    echo = '@app.lambda_function(name="echo")\ndef echo(event, context):\n    return event\n'
    with served(tmp_path, echo, env={"LOCALAWS_WORKERS": "1"}) as other:
        assert len(result(other, "echo", "x" * (6 * 1024 * 1024 - 2))) == 6 * 1024 * 1024 - 2
        assert result(other, "echo", "ünï 💥 \ud800") == "ünï 💥 \ud800"


def test_the_projects_own_app_runs_in_workers() -> None:
    env = {"LOCALAWS_WORKERS": "2"}
    with server.running_server(env=env) as running, connect(running.url) as one, connect(running.url) as other:
        one.send('{"action": "joinchannel", "channel": "c"}')
        assert json.loads(one.recv(timeout=20))["channel"] == "c"
        other.send('{"action": "sendmessage", "channel": "c", "message": "hello"}')
        assert one.recv(timeout=20) == "hello"


def test_workers_start_side_by_side_and_none_before_it_is_needed(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS, env={"LOCALAWS_WORKERS": "3"}) as other:
        assert workers(other) == []
        with ThreadPoolExecutor() as pool:
            running = [pool.submit(result, other, "who", "go") for _ in range(3)]
            until(lambda: began(other, "go", 3), "three events at the same time", other.server.log)
            other.touch("go")
            assert {each.result()["count"] for each in running} == {1}


def test_an_app_that_a_worker_cannot_import_is_a_failed_function_and_no_more(tmp_path: Path) -> None:
    broken = RECORDER + (
        '\nif "AWS_CHALICE_CLI_MODE" not in os.environ:\n    raise RuntimeError("only here")\n'
        '@app.lambda_function(name="who")\ndef who(event, context):\n    return 1\n'
    )
    with served(tmp_path, broken, env={"LOCALAWS_WORKERS": "1"}) as other:
        for _ in range(2):
            told = json.loads(call(other, "who")["Payload"])
            assert told["errorMessage"].endswith(" Error: Runtime exited with error: exit status 1")
        assert "RuntimeError: only here" in other.server.log()
        assert request(other, "GET", "/")[0] == 200


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_server_however_it_ends_in_mid_event_too(tmp_path: Path, how: signal.Signals) -> None:
    write_project(tmp_path, HANDLERS)
    log = tmp_path / "log"
    process = server.start(tmp_path, log, env={"LOCALAWS_WORKERS": "2"})
    try:
        other = Tiny(wait_until_served(process, log), tmp_path)
        with connect(other.url) as open_connection:
            open_connection.send("hello")
            assert open_connection.recv(timeout=20) == "hello"
            call(other, "who", "never", InvocationType="Event")
            until(lambda: began(other, "never", 1), "an event that does not end", other.server.log)
            family = server.descendants(process.pid)
            assert len(workers(other)) >= 1
            process.send_signal(how)
            assert all_gone(family[1:])
        process.wait(20)
        if how is not signal.SIGKILL:
            assert other.event("DISCONNECT")["requestContext"]["disconnectStatusCode"] == 1001
    finally:
        process.kill()
        process.wait(20)
