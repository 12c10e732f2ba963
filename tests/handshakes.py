"""The handlers over a real store, as Lambda has them, and handshakes as API Gateway hands them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chalice.app import WebsocketAPI

from chalicelib import handlers
from chalicelib.transport import ENDPOINT_VARIABLE, Session

from .captured import event
from .conftest import everything_in, new_table
from .fakes import NOW, Context

if TYPE_CHECKING:
    import pytest
    from mypy_boto3_dynamodb import DynamoDBClient

Pairs = Sequence[tuple[str, str]]

ME = "IU3kkeN4IAMCJwA="
"""The connection of all captured events, here."""

OK, UNAUTHENTICATED, FORBIDDEN, FAILED = ({"statusCode": status} for status in (200, 401, 403, 500))

NOBODY = "http://127.0.0.1:9"
"""An address where nothing answers."""


def handshake(headers: Pairs = (), query: Pairs = (), **context: Any) -> dict[str, Any]:
    """The captured $connect with these headers, named as the client has named them, and this query."""
    return {
        **event("connect", connectedAt=NOW, **context),
        **_fields(
            "headers", "multiValueHeaders", [("Host", "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"), *headers]
        ),
        **_fields("queryStringParameters", "multiValueQueryStringParameters", query),
    }


def _fields(single: str, multiple: str, pairs: Pairs) -> dict[str, Any]:
    """What API Gateway makes of names that may come twice: every value in one place, the last in the other."""
    every: dict[str, list[str]] = {}
    for name, value in pairs:
        every.setdefault(name, []).append(value)
    return {single: dict(pairs), multiple: every} if pairs else {single: None, multiple: None}


class Handlers:
    """The three handlers and their table, with the variables of a deployment; `endpoint` is where posts go."""

    def __init__(
        self,
        client: DynamoDBClient,
        monkeypatch: pytest.MonkeyPatch,
        variables: Mapping[str, str],
        endpoint: str = NOBODY,
    ) -> None:
        self.client, self.name = client, new_table(client)
        environment = {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_DYNAMODB": client.meta.endpoint_url,
            ENDPOINT_VARIABLE: endpoint,
            "TABLE_NAME": self.name,
        }
        for name, value in {**environment, **variables}.items():
            monkeypatch.setenv(name, value)
        handlers._assembled.cache_clear()
        self.api = WebsocketAPI()
        self.api.session = Session()
        self.api.configure("the endpoint", "of the variable")

    def connect(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        return handlers.connect(payload, self.api)

    def message(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        return handlers.message(payload, Context(), self.api)

    def disconnect(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        return handlers.disconnect(payload, self.api)

    def lets_in(self, payload: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """With those headers alone, and the connection recorded."""
        assert self.connect(payload) == (OK if headers is None else {**OK, "headers": headers})
        assert self.record()["connection_id"] == ME

    def refuses(self, payload: Mapping[str, Any], answer: Mapping[str, int]) -> None:
        """With that status alone, and nothing written."""
        assert self.connect(payload) == answer
        assert self.items() == []

    def items(self) -> list[dict[str, Any]]:
        return everything_in(self.client, self.name)

    def record(self) -> dict[str, Any]:
        """What is recorded of the connection, as values."""
        [item] = [item for item in self.items() if item["channel"]["S"] == f"@connection#{ME}"]
        return {name: next(iter(value.values())) for name, value in item.items()}
