"""What a handler calls is recorded as its own: here in this process; servers' is what permissions are judged by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chalice.app import WebsocketAPI

from chalicelib import handlers
from chalicelib.transport import ENDPOINT_VARIABLE, Session

from .captured import event
from .conftest import everything_in, new_table
from .connections import connections_endpoint
from .fakes import NOW, Context
from .recorder import Call, read_own

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def test_what_a_handler_calls_in_any_thread_is_recorded_and_what_a_test_calls_is_not(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, recording: Path
) -> None:
    with connections_endpoint() as clients:
        environment = {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_DYNAMODB": ministack.meta.endpoint_url,
            ENDPOINT_VARIABLE: clients.url,
            "TABLE_NAME": new_table(ministack),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        api = WebsocketAPI()
        api.session = Session()
        api.configure("the endpoint", "of the variable")
        # The two joins are written in threads of a pool.
        subscribe = '{"type":"subscribe","topics":["a","b"]}'
        # Now, for the store deletes what has expired, and the captured connection ended years ago.
        handlers.message(event("message", body=subscribe, connectedAt=NOW, requestTimeEpoch=NOW), Context(), api)
        handlers.message(event("message", body="Marko?"), Context(), api)
    assert len(everything_in(ministack, environment["TABLE_NAME"])) == 2
    recorded = read_own(recording)
    assert recorded >= {
        Call("websocket_message", "dynamodb:GetItem", "table"),
        Call("websocket_message", "dynamodb:UpdateItem", "table"),
        Call("websocket_message", "execute-api:ManageConnections", "connections"),
    }
    assert not {call for call in recorded if call.action == "dynamodb:Scan"}
