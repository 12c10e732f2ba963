"""Lambda's Invoke API, as boto3 calls it and waits for an answer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.localaws.invoked import call, client, refusal, result
from tests.localaws.tiny import Tiny, served

HANDLERS = """
@app.middleware("pure_lambda")
def mark(event, get_response):
    event.context.marked = True
    return get_response(event)

@app.lambda_function(name="echo")
def any_name_at_all(event, context):
    return {
        "event": event,
        "id": context.aws_request_id,
        "name": context.function_name,
        "memory": context.memory_limit_in_mb,
        "ms_left": context.get_remaining_time_in_millis(),
        "marked": vars(context).get("marked"),
    }

@app.lambda_function(name="configured")
def configured(event, context):
    return any_name_at_all(event, context)

@app.lambda_function(name="evaluate")
def evaluate(event, context):
    return eval(event)

@app.lambda_function(name="fail")
def fail(event, context):
    if event.get("exit"):
        raise SystemExit(3)
    raise KeyError("a clear message")

together = threading.Barrier(8)

@app.lambda_function(name="meet")
def meet(event, context):
    together.wait(20)
    return event

@app.lambda_function(name="send")
def send(event, context):
    app.websocket_api.send(event["to"], event["text"])

@app.on_ws_connect()
def connected(event):
    record(event)

@app.on_ws_message()
def a_message(event):
    answer = boto3.client("lambda").invoke(FunctionName="tiny-dev-echo", Payload=event.body)
    app.websocket_api.send(event.connection_id, answer["Payload"].read().decode())

@app.lambda_function(name="touch")
def touch(event, context):
    (here / event).touch()
"""

CONFIG = {"stages": {"dev": {"lambda_functions": {"configured": {"lambda_timeout": 900, "lambda_memory_size": 1769}}}}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS, config=CONFIG) as running:
        yield running


def test_the_answer_is_what_the_function_returned(tiny: Tiny) -> None:
    answer = call(tiny, "echo", {"a": ["ünïcödé", 1.5, None]})
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    returned = json.loads(answer["Payload"])
    assert returned["event"] == {"a": ["ünïcödé", 1.5, None]}
    assert returned["name"] == "tiny-dev-echo"
    assert returned["id"] == answer["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize("event", [None, True, 7, "text", [], ["list"], {}, "\ud800", "\0"])
def test_any_json_is_an_event(tiny: Tiny, event: object) -> None:
    assert result(tiny, "echo", event)["event"] == event


@pytest.mark.parametrize("payload", [{}, {"Payload": b""}, {"Payload": ""}], ids=["none", "bytes", "text"])
def test_no_payload_is_an_empty_event(tiny: Tiny, payload: dict[str, Any]) -> None:
    answer = client(tiny).invoke(FunctionName="tiny-dev-echo", **payload)
    assert json.load(answer["Payload"])["event"] == {}


def test_a_payload_may_be_a_file(tiny: Tiny) -> None:
    answer = client(tiny).invoke(FunctionName="tiny-dev-echo", Payload=io.BytesIO(b'{"from": "a file"}'))
    assert json.load(answer["Payload"])["event"] == {"from": "a file"}


def test_a_function_that_returns_nothing_returns_null(tiny: Tiny) -> None:
    assert call(tiny, "evaluate", "None")["Payload"] == b"null"


def test_functions_run_at_the_same_time(tiny: Tiny) -> None:
    with ThreadPoolExecutor(8) as callers:
        answers = callers.map(lambda number: result(tiny, "meet", number), range(8))
        assert list(answers) == list(range(8))


def test_a_function_that_raises_is_a_function_error_without_its_stack(tiny: Tiny) -> None:
    answer = call(tiny, "fail", {})
    assert (answer["StatusCode"], answer["FunctionError"], answer["ExecutedVersion"]) == (200, "Unhandled", "$LATEST")
    assert json.loads(answer["Payload"]) == {
        "errorMessage": "'a clear message'",
        "errorType": "KeyError",
        "requestId": answer["ResponseMetadata"]["RequestId"],
        "stackTrace": [],
    }
    assert 'in fail\n    raise KeyError("a clear message")' in tiny.server.log()


def test_a_function_that_exits_is_a_function_error_and_the_server_goes_on(tiny: Tiny) -> None:
    answer = call(tiny, "fail", {"exit": True})
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"])["errorType"] == "Runtime.ExitError"
    assert result(tiny, "evaluate", "1 + 1") == 2


@pytest.mark.parametrize("code", ["{1, 2}", "b'bytes'", "float('nan')", "{(1, 2): 3}", "(a := [], a.append(a))[0]"])
def test_what_is_no_json_cannot_be_returned(tiny: Tiny, code: str) -> None:
    answer = call(tiny, "evaluate", code)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    error = json.loads(answer["Payload"])
    assert error["errorType"] == "Runtime.MarshalError"
    assert error["errorMessage"].startswith("Unable to marshal response: ")


def test_the_context_has_the_timeout_and_memory_that_chalice_gives_by_default(tiny: Tiny) -> None:
    context = result(tiny, "echo")
    assert context["memory"] == 128
    assert 29_000 < context["ms_left"] <= 60_000


def test_the_context_has_the_timeout_and_memory_that_are_configured_for_the_function(tiny: Tiny) -> None:
    context = result(tiny, "configured")
    assert context["memory"] == 1769
    assert 60_000 < context["ms_left"] <= 900_000


def test_the_apps_middleware_surrounds_the_function(tiny: Tiny) -> None:
    assert result(tiny, "echo")["marked"] is True


def test_a_function_sends_to_a_websocket(tiny: Tiny) -> None:
    with connect(tiny.url) as receiver:
        to = tiny.event("CONNECT")["requestContext"]["connectionId"]
        assert result(tiny, "send", {"to": to, "text": "from a function"}) is None
        assert receiver.recv(timeout=20) == "from a function"


def test_an_unconfigured_client_in_the_app_lands_here(tiny: Tiny) -> None:
    with connect(tiny.url) as sender:
        sender.send('{"from": "a handler"}')
        assert json.loads(sender.recv(timeout=20))["event"] == {"from": "a handler"}


def test_websocket_handlers_are_functions_as_well(tiny: Tiny) -> None:
    context = {"domainName": "any", "apiId": "any", "stage": "api", "eventType": "CONNECT", "connectionId": "invoked"}
    assert result(tiny, "websocket_connect", {"requestContext": context}) == {"statusCode": 200}
    assert tiny.event("CONNECT", "invoked") == {"requestContext": context}


def test_a_dry_run_runs_nothing(tiny: Tiny) -> None:
    answer = call(tiny, "touch", "dry", InvocationType="DryRun")
    assert (answer["StatusCode"], answer["Payload"]) == (204, b"")
    result(tiny, "touch", "wet")
    assert (tiny.project / "wet").exists()
    assert not (tiny.project / "dry").exists()


def test_a_dry_run_says_that_a_function_is_not_there(tiny: Tiny) -> None:
    assert refusal(tiny, FunctionName="none", InvocationType="DryRun")[:2] == (404, "ResourceNotFoundException")


def test_the_greeting_names_the_functions_there_are_to_invoke(tiny: Tiny) -> None:
    functions = ", ".join(
        f"tiny-dev-{name}" for name in ("echo", "configured", "evaluate", "fail", "meet", "send", "touch")
    )
    line = f"  functions  {functions} (boto3, aws lambda invoke --endpoint-url {tiny.server.http})\n\nCtrl-C stops.\n"
    assert line in tiny.server.log()
