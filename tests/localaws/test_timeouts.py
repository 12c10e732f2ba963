"""Functions that take longer than a client is made to wait, and longer than they may themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.localaws.invoked import call, result
from tests.localaws.tiny import Tiny, served, until

HANDLERS = """
@app.on_ws_connect()
def websocket_connect(event):
    record(event)
    if "slow" in event.to_dict().get("queryStringParameters", {}):
        wait_for("connected")

@app.on_ws_message()
def websocket_message(event):
    record(event)
    if event.body.startswith("slow"):
        wait_for(f"{event.body} may end")
        (here / f"{event.body} has ended").touch()
    else:
        app.websocket_api.send(event.connection_id, event.body)
    return {"statusCode": 200, "body": "reaches nobody"}

@app.lambda_function(name="short")
def short(event, context):
    if event == "slow":
        wait_for("invoked")
        (here / "invoked-went-on").touch()

@app.lambda_function(name="long")
def long(event, context):
    (here / "long-began").touch()
    wait_for("long")
    return "long"
"""

ENV = {"LOCALAWS_INTEGRATION_MS": "1500"}
TIMEOUTS = {"stages": {"dev": {"lambda_functions": {"short": {"lambda_timeout": 1}}}}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS, env=ENV, config=TIMEOUTS) as running:
        yield running


def test_a_client_whose_message_takes_too_long_is_told_and_the_function_goes_on(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        client.send("slow 1")
        notice = json.loads(client.recv(timeout=20))
        event = tiny.event("MESSAGE", connection_id)
        assert notice == {
            "message": "Endpoint request timed out",
            "connectionId": connection_id,
            "requestId": event["requestContext"]["requestId"],
        }
        ended = tiny.project / "slow 1 has ended"
        assert not ended.exists()
        tiny.touch("slow 1 may end")
        until(lambda: ended.exists() or None, "the function's end", tiny.server.log)
        client.send("still there")
        until(lambda: "still there" in tiny.seen()[-1].get("body", "") or None, "the next message", tiny.server.log)


def test_a_handshake_whose_connect_takes_too_long_is_a_gateway_timeout_without_a_connection(tiny: Tiny) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"{tiny.url}?slow=", open_timeout=20):
        pass
    assert refused.value.response.status_code == 504
    connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
    tiny.touch("connected")
    management = tiny.management()
    with pytest.raises(management.exceptions.GoneException):
        management.post_to_connection(ConnectionId=connection_id, Data=b"x")


def test_a_function_that_outlasts_its_own_timeout_fails_as_lambda_says_it(tiny: Tiny) -> None:
    answer = call(tiny, "short", "slow")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    request_id = answer["ResponseMetadata"]["RequestId"]
    error = json.loads(answer["Payload"])
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"] == f"RequestId: {request_id} Error: Task timed out after 1.00 seconds"
    told = f"RequestId: {request_id} Error: Task timed out after 1.00 seconds (tiny-dev-short); its thread goes on."
    assert told in tiny.server.log()
    tiny.touch("invoked")
    until(lambda: (tiny.project / "invoked-went-on").exists() or None, "the thread's end", tiny.server.log)


def test_an_invocation_by_lambdas_api_may_take_longer_than_api_gateway_waits(tiny: Tiny) -> None:
    with ThreadPoolExecutor() as pool, connect(tiny.url) as client:
        invoked = pool.submit(result, tiny, "long")
        until(lambda: (tiny.project / "long-began").exists() or None, "the function to start", tiny.server.log)
        client.send("slow 2")
        assert json.loads(client.recv(timeout=20))["message"] == "Endpoint request timed out"
        # It began before that message, and so has had more than the gateway's time.
        tiny.touch("long")
        tiny.touch("slow 2 may end")
        assert invoked.result(20) == "long"


def test_a_message_handler_that_outlasts_its_own_timeout_is_an_internal_server_error(tmp_path: Path) -> None:
    config = {"stages": {"dev": {"lambda_functions": {"websocket_message": {"lambda_timeout": 1}}}}}
    with served(tmp_path, HANDLERS, config=config) as tiny, connect(tiny.url) as client:
        client.send("slow")
        assert json.loads(client.recv(timeout=20))["message"] == "Internal server error"
        tiny.touch("slow may end")


def test_with_localaws_integration_ms_0_a_client_waits_for_as_long_as_it_takes(tmp_path: Path) -> None:
    env = {"LOCALAWS_INTEGRATION_MS": "0"}
    with served(tmp_path, HANDLERS, env=env) as tiny, ThreadPoolExecutor() as pool, connect(tiny.url) as client:
        slow = pool.submit(connect, f"{tiny.url}?slow=", open_timeout=20)
        client.send("slow")
        client.send("meanwhile")
        assert client.recv(timeout=20) == "meanwhile"
        tiny.touch("connected")
        with slow.result(20) as other:
            other.send("hello")
            assert other.recv(timeout=20) == "hello"
        tiny.touch("slow may end")
        until(lambda: (tmp_path / "slow has ended").exists() or None, "the function's end", tiny.server.log)
