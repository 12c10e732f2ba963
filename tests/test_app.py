"""The app as Lambda sees it: captured events in, through Chalice's own test client; posts out, over real HTTP."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from chalice.test import Client

import app as application
from chalicelib import handlers, publishing
from chalicelib.errors import ClientError
from chalicelib.transport import ENDPOINT_VARIABLE, Session
from localaws.dynamodb import create_table, load_definition

from .captured import event
from .conftest import ROOT, everything_in
from .connections import Connections, connections_endpoint
from .fakes import NOW, Context
from .handshakes import Pairs, handshake
from .sdk import new_sessions
from .tokens import VARIABLES, token_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ME = "SOqGjdZioAMCEeg="
TABLE = "channels-dev"
"""Its name in .chalice/config.json, whose variables the test client sets during each call."""


class Lambda:
    """The app's three functions, its table and its clients."""

    def __init__(self, store: DynamoDBClient, clients: Connections) -> None:
        self.store, self.clients = store, clients
        self.use_stage("dev")

    def use_stage(self, stage: str) -> None:
        self.lambda_ = Client(application.app, stage, project_dir=str(ROOT)).lambda_

    def invoke(self, name: str, payload: dict[str, Any]) -> Any:
        return self.lambda_.invoke(name, payload).payload

    def items(self) -> list[dict[str, Any]]:
        """All that is in the table, but for the address that the first connect leaves."""
        return [item for item in everything_in(self.store, TABLE) if item["channel"]["S"] != "@address"]


@pytest.fixture(name="deployed")
def a_deployed_app(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    create_table(ministack, load_definition(ROOT / ".chalice/resources.json"), TABLE)
    with connections_endpoint() as clients:
        environment = {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_DYNAMODB": ministack.meta.endpoint_url,
            ENDPOINT_VARIABLE: clients.url,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        api = application.app.websocket_api
        monkeypatch.setattr(api, "session", Session())
        monkeypatch.setattr(api, "_client", None)
        monkeypatch.setattr(api, "_endpoint", None)
        handlers._assembled.cache_clear()
        yield Lambda(ministack, clients)
    with suppress(ministack.exceptions.ResourceNotFoundException):
        ministack.delete_table(TableName=TABLE)


def test_a_life_from_connect_to_disconnect(deployed: Lambda) -> None:
    assert deployed.invoke("websocket_connect", event("connect", connectionId=ME)) == {"statusCode": 200}
    assert len(deployed.items()) == 2
    assert deployed.invoke("websocket_message", event("message")) == {"statusCode": 200}
    assert deployed.clients.frames(ME) == [{"channel": "news", "connectionId": ME}]
    assert deployed.invoke("websocket_disconnect", event("disconnect")) == {"statusCode": 200}
    assert deployed.items() == []


def test_the_url_chooses_the_home_channel(deployed: Lambda) -> None:
    deployed.invoke("websocket_connect", event("connect", connectionId=ME, connectedAt=NOW))
    deployed.invoke("websocket_message", event("message", body='{"type":"message","data":"hello"}'))
    assert deployed.clients.posts[ME] == ["hello"]
    assert {item["channel"]["S"] for item in deployed.items()} == {"lobby", f"@connection#{ME}"}


# --- who is let in


OPEN = "this server is open: anyone may connect, join and publish; AUTHENTICATION changes that"


@pytest.fixture(name="guarded")
def an_app_that_takes_tokens(deployed: Lambda, monkeypatch: pytest.MonkeyPatch) -> Lambda:
    for name, value in {**VARIABLES, "ALLOWED_ORIGINS": "https://app.example.com"}.items():
        monkeypatch.setenv(name, value)
    return deployed


def entering(*headers: tuple[str, str], query: Pairs = ()) -> dict[str, Any]:
    return handshake([("Origin", "https://app.example.com"), *headers], query, connectionId=ME)


@pytest.mark.parametrize("function", ["connect", "message", "disconnect"])
def test_each_cold_start_of_an_open_server_says_so_once(
    deployed: Lambda, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    for cold_start in range(1, 3):
        handlers._assembled.cache_clear()
        for _ in range(2):
            deployed.invoke(f"websocket_{function}", event(function))
        said = [record.levelname for record in caplog.records if record.getMessage().startswith(OPEN)]
        assert said == ["WARNING"] * cold_start


def test_a_handshake_is_answered_200_401_403_or_500_and_a_subprotocol_is_echoed(
    guarded: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = token_for("ada", {"lobby": ["subscribe"]})
    bearer = ("Authorization", f"Bearer {token}")

    def answer(payload: dict[str, Any]) -> Any:
        return guarded.invoke("websocket_connect", payload)

    assert answer(entering()) == {"statusCode": 401}
    assert answer(entering(("Authorization", "Bearer x"))) == {"statusCode": 401}
    assert answer(entering(bearer, query=[("room", "secret")])) == {"statusCode": 403}
    assert answer(handshake([("Origin", "https://app.example.com.evil.io"), bearer])) == {"statusCode": 403}
    assert guarded.items() == []
    assert answer(entering(bearer, query=[("room", "lobby")])) == {"statusCode": 200}
    assert answer(entering(("Sec-WebSocket-Protocol", f"bearer, {token}"))) == {
        "statusCode": 200,
        "headers": {"Sec-WebSocket-Protocol": "bearer"},
    }
    monkeypatch.setenv("JWT_SECRET", "short")
    assert answer(entering(bearer)) == {"statusCode": 500}
    assert OPEN not in caplog.text


def test_a_user_joins_what_its_token_allows_and_is_told_what_it_does_not(guarded: Lambda) -> None:
    token = token_for("ada", {"news": ["subscribe"]})
    guarded.invoke("websocket_connect", entering(("Authorization", f"Bearer {token}")))
    for body in ('{"action":"joinchannel","channel":"news"}', '{"action":"sendmessage","channel":"news","message":1}'):
        guarded.invoke("websocket_message", event("message", body=body, connectedAt=NOW))
    [joined, refused] = guarded.clients.frames(ME)
    assert joined == {"channel": "news", "connectionId": ME}
    assert refused == {
        "type": "error",
        "code": "forbidden",
        "message": "This connection may not publish to 'news'.",
    }


def test_a_client_that_does_not_heed_a_limit_is_closed(guarded: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_TOPICS", "1")
    monkeypatch.setenv("STRIKES", "2")
    frame = event("message", body='{"type":"subscribe","topics":["1","2"]}')
    for _ in range(2):
        assert guarded.clients.closed == []
        guarded.invoke("websocket_message", frame)
    assert guarded.clients.closed == [ME]
    guarded.clients.status[ME] = 410
    assert guarded.invoke("websocket_message", frame) == {"statusCode": 200}


# --- frames, and backends


def test_a_binary_frame_is_answered_with_an_error_frame(deployed: Lambda) -> None:
    deployed.invoke("websocket_message", {**event("message"), "isBase64Encoded": True})
    [answer] = deployed.clients.frames(ME)
    assert isinstance(answer, dict)
    assert answer["code"] == "wrong_type"


def test_a_client_that_is_gone_makes_no_handler_fail(deployed: Lambda) -> None:
    deployed.clients.status[ME] = 410
    for payload in (event("message"), {**event("message"), "isBase64Encoded": True}):
        assert deployed.invoke("websocket_message", payload) == {"statusCode": 200}


def test_without_its_tables_name_connects_are_refused_and_the_log_says_what_to_set(
    deployed: Lambda, caplog: pytest.LogCaptureFixture
) -> None:
    deployed.use_stage("a stage that config.json does not have")
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert "TABLE_NAME is not set" in caplog.text
    assert ".chalice/config.json" in caplog.text
    deployed.invoke("websocket_message", event("message"))
    [answer] = deployed.clients.frames(ME)
    assert isinstance(answer, dict)
    assert answer["code"] == "misconfigured"
    assert "TABLE_NAME" not in json.dumps(answer)
    assert deployed.invoke("websocket_disconnect", event("disconnect")) == {"statusCode": 200}


def test_a_store_that_fails_refuses_the_connect_and_survives_the_disconnect(
    deployed: Lambda, caplog: pytest.LogCaptureFixture
) -> None:
    deployed.store.delete_table(TableName=TABLE)
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert deployed.invoke("websocket_disconnect", event("disconnect")) == {"statusCode": 200}
    assert "connect refused connection=IU3kkeN4IAMCJwA= cause=BatchWriteItem failed: ResourceNotFound" in caplog.text
    assert f"disconnect incomplete connection={ME} cause=Query failed: ResourceNotFound" in caplog.text


def test_an_action_cannot_take_the_name_of_a_dialects_frame(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handlers, "ACTIONS", {"sendmessage": lambda _call: None})
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert "'sendmessage', which a dialect takes" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL_DYNAMODB", "garbage"), ("AWS_PROFILE", "no such profile")]
)
def test_an_sdk_that_is_configured_wrongly_is_said_in_the_log(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    new_sessions(monkeypatch)
    monkeypatch.setenv(name, value)
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert "The AWS SDK cannot make a client for dynamodb" in caplog.text
    assert value in caplog.text
    assert deployed.invoke("websocket_message", event("message")) == {"statusCode": 200}
    assert deployed.invoke("websocket_disconnect", event("disconnect")) == {"statusCode": 200}


def test_a_backend_publishes_to_the_members_of_a_channel(deployed: Lambda) -> None:
    deployed.invoke("websocket_connect", event("connect", connectionId=ME, connectedAt=NOW))
    sent = deployed.invoke("publish", {"channel": "lobby", "message": "hello", "id": "order-5"})
    nothing_else = {"stale": 0, "not_open": 0, "throttled": 0, "failed": 0, "handed_on": 0}
    assert sent == {"id": "order-5", "delivered": 1, **nothing_else}
    again = deployed.invoke("publish", {"channel": "lobby", "message": "hello", "id": "order-5"})
    assert again == {"id": "order-5", "delivered": 0, **nothing_else, "already_sent": True}
    assert deployed.clients.posts[ME] == ["hello"]


def test_whoever_is_excluded_gets_nothing_from_a_backend(deployed: Lambda) -> None:
    deployed.invoke("websocket_connect", event("connect", connectionId=ME, connectedAt=NOW))
    assert deployed.invoke("publish", {"channel": "lobby", "message": 1, "exclude": ME})["delivered"] == 0
    assert deployed.clients.posts == {}


def test_two_publishes_without_a_name_are_two_messages(deployed: Lambda) -> None:
    deployed.invoke("websocket_connect", event("connect", connectionId=ME, connectedAt=NOW))
    for _ in range(2):
        deployed.invoke("publish", {"channel": "lobby", "message": {"price": 5}})
    assert deployed.clients.posts[ME] == ['{"price":5}', '{"price":5}']


def test_the_publish_function_finds_its_way_by_what_a_connect_left_in_the_table(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a Lambda of its own it has neither an event of API Gateway's nor an endpoint variable."""
    deployed.invoke("websocket_connect", event("connect", connectionId=ME, connectedAt=NOW))
    api = application.app.websocket_api
    asked: list[str] = []

    class Recording(Session):
        def client(self, name: str, endpoint_url: str) -> Any:
            asked.append(endpoint_url)
            return super().client(name, endpoint_url=deployed.clients.url)

    for attribute, value in (("session", Recording()), ("_client", None), ("_endpoint", None)):
        monkeypatch.setattr(api, attribute, value)
    monkeypatch.delenv(ENDPOINT_VARIABLE)
    handlers._assembled.cache_clear()
    assert deployed.invoke("publish", {"channel": "lobby", "message": "hello"})["delivered"] == 1
    assert asked == ["https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/api"]


def test_before_the_first_connect_there_is_nobody_to_publish_to(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENDPOINT_VARIABLE)
    assert deployed.invoke("publish", {"channel": "lobby", "message": "hello"})["delivered"] == 0


@pytest.mark.parametrize("payload", [{}, [], {"channel": 5, "message": 1}, {"channel": "c", "message": "x" * 131_072}])
def test_a_publish_of_another_shape_is_raised_and_said_in_the_log(
    deployed: Lambda, caplog: pytest.LogCaptureFixture, payload: Any
) -> None:
    with pytest.raises(ClientError):
        deployed.invoke("publish", payload)
    assert "publish failed cause=" in caplog.text
    assert "x" * 100 not in caplog.text


def test_of_messages_of_sqs_those_that_failed_are_named(deployed: Lambda, caplog: pytest.LogCaptureFixture) -> None:
    deployed.invoke("websocket_connect", event("connect", connectionId=ME, connectedAt=NOW))
    bodies = ['{"channel":"lobby","message":1}', "hello", '{"channel":"lobby","message":2}']
    records = [{"eventSource": "aws:sqs", "messageId": f"m{n}", "body": body} for n, body in enumerate(bodies)]
    for _ in range(2):
        assert deployed.invoke("publish", {"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert deployed.clients.posts[ME] == ["1", "2"]
    assert "publish failed message=m1 cause='body' must be the JSON text of a publish event" in caplog.text


def test_what_a_handler_has_no_time_for_goes_to_the_publish_function(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten members and a handler whose time is up: it sends to one, and hands nine on, as one event."""
    names = [f"IU3k{number:05}AMCJw=" for number in range(10)]
    for name in names:
        deployed.invoke("websocket_connect", event("connect", connectionId=name, connectedAt=NOW))
    invoked: list[Mapping[str, Any]] = []
    monkeypatch.setattr(
        "chalicelib.publishing.Invoke.__call__",
        lambda invoke, rest: invoked.append({"function": invoke.function, **publishing.to_event(rest)}),
    )
    monkeypatch.setattr(handlers, "HANDLER_MS", -1)
    frame = {"action": "sendmessage", "channel": "lobby", "message": "hello", "ack": True}
    deployed.invoke("websocket_message", event("message", body=json.dumps(frame)))
    assert deployed.clients.frames(ME) == [{"type": "ack", "delivered": 1, "stale": 0, "handed_on": 1}]
    [rest] = invoked
    assert rest["function"] == "channels-dev-publish"
    assert deployed.invoke("publish", {"handed_on": rest["handed_on"]})["delivered"] == 9
    assert deployed.invoke("publish", {"handed_on": rest["handed_on"]})["already_sent"]
    assert {name: deployed.clients.posts[name] for name in names} == {name: ["hello"] for name in names}


def test_the_publish_function_goes_on_in_itself_whatever_its_name(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudFormation names functions as it likes."""
    names = [f"IU3k{number:05}AMCJw=" for number in range(3)]
    for name in names:
        deployed.invoke("websocket_connect", event("connect", connectionId=name, connectedAt=NOW))
    functions: list[str | None] = []
    monkeypatch.setattr(
        "chalicelib.publishing.Invoke.__call__", lambda invoke, _rest: functions.append(invoke.function)
    )
    monkeypatch.setenv("TABLE_NAME", TABLE)
    monkeypatch.setenv("PUBLISH_FUNCTION", "another")
    context = Context(remaining_ms=0)
    sent = handlers.publish({"channel": "lobby", "message": 1}, context, application.app.websocket_api)
    assert (sent["delivered"], functions) == (1, [context.function_name])


def test_an_endpoint_that_accepts_nothing_is_said_once_with_what_to_do_and_counted(
    deployed: Lambda, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"IU3k{number:05}AMCJw=" for number in range(20)]
    for name in names:
        deployed.invoke("websocket_connect", event("connect", connectionId=name, connectedAt=NOW))
        deployed.clients.status[name] = 403
    assert deployed.invoke("publish", {"channel": "lobby", "message": "hello"})["failed"] == 20
    messages = {record.getMessage() for record in caplog.records}
    assert sum("the function's role must allow execute-api:ManageConnections" in message for message in messages) == 2
    assert "posts given up count=20 cause=PostToConnection failed: 403 ForbiddenException" in caplog.text
    assert "failed=20" in caplog.text


def test_events_that_come_at_once_share_one_service(deployed: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE_NAME", TABLE)
    together = threading.Barrier(8)

    def service(_number: int) -> object:
        together.wait()
        return handlers._service(application.app.websocket_api)

    with ThreadPoolExecutor(8) as threads:
        assert len({id(one) for one in list(threads.map(service, range(8)))}) == 1


def test_chalice_accepts_the_app_for_a_deployment() -> None:
    assert application.app.experimental_feature_flags == {"WEBSOCKETS"}
    websocket = {"websocket_connect", "websocket_message", "websocket_disconnect"}
    assert set(application.app.handler_map) == {*websocket, "publish"}
    assert application.app.log.level == logging.INFO
    assert application.app.routes == {}


def test_the_app_reads_no_setting_and_makes_no_client_when_it_is_imported() -> None:
    """Lambda and the test client set the variables at different times; a deployment imports the app without any."""
    code = "import app, sys; assert app.app.websocket_api._client is None; assert 'localaws' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, check=True)
