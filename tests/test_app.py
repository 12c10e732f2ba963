"""The app as Lambda sees it: captured events in, through Chalice's own test client; posts out, over real HTTP."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from chalice.test import Client

import app as application
from chalicelib import handlers
from chalicelib.transport import ENDPOINT_VARIABLE, Session
from localaws.dynamodb import create_table, load_definition

from .captured import event
from .conftest import ROOT, everything_in
from .connections import Connections, connections_endpoint
from .fakes import NOW

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
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(application.app.log, "propagate", True)
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
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(application.app.log, "propagate", True)
    deployed.store.delete_table(TableName=TABLE)
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert deployed.invoke("websocket_disconnect", event("disconnect")) == {"statusCode": 200}
    assert "connect refused connection=IU3kkeN4IAMCJwA= cause=BatchWriteItem failed: ResourceNotFound" in caplog.text
    assert f"disconnect incomplete connection={ME} cause=Query failed: ResourceNotFound" in caplog.text


def test_an_action_cannot_take_the_name_of_a_dialects_frame(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(application.app.log, "propagate", True)
    monkeypatch.setattr(handlers, "ACTIONS", {"sendmessage": lambda _call: None})
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert "'sendmessage', which a dialect takes" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL_DYNAMODB", "garbage"), ("AWS_PROFILE", "no such profile")]
)
def test_an_sdk_that_is_configured_wrongly_is_said_in_the_log(
    deployed: Lambda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setattr(application.app.log, "propagate", True)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.setenv(name, value)
    assert deployed.invoke("websocket_connect", event("connect")) == {"statusCode": 500}
    assert "The AWS SDK cannot make a client for dynamodb" in caplog.text
    assert value in caplog.text
    assert deployed.invoke("websocket_message", event("message")) == {"statusCode": 200}
    assert deployed.invoke("websocket_disconnect", event("disconnect")) == {"statusCode": 200}


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
