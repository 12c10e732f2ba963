"""The way out to API Gateway's @connections: the session behind `app.websocket_api`, and its errors as ours.

`app.websocket_api.session` is Chalice's public seam: any object with `client(name, endpoint_url=…)` and `region_name`.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from . import aws
from .broadcast import Post
from .errors import ConnectionGone, NotWritten, PostFailed, Throttled
from .model import ConnectionId

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
"""The SDK's own variable for another endpoint. Chalice passes its endpoint explicitly, which would win over it."""

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5
"""A post is answered in milliseconds; one that hangs must not use up the invocation's 29 s."""

MOST_SOCKETS = 512

THROTTLED_STATUS = 429


class Session:
    """A session for `app.websocket_api`: one boto3 client an endpoint, shared by all threads.

    The client never repeats a request by itself: a request whose answer was lost may have been delivered.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    @property
    def region_name(self) -> str | None:
        """The region of the SDK's configuration; Chalice builds the endpoint from it where AWS_REGION is not set."""
        return boto3.session.Session().region_name

    def client(self, name: str, endpoint_url: str) -> Any:
        """The client for that endpoint, or for the one that ENDPOINT_VARIABLE names."""
        endpoint = os.environ.get(ENDPOINT_VARIABLE) or endpoint_url
        with self._lock:
            if (name, endpoint) not in self._clients:
                self._clients[name, endpoint] = aws.client(
                    name,
                    endpoint_url=endpoint,
                    attempts=1,
                    connect_seconds=CONNECT_SECONDS,
                    answer_seconds=ANSWER_SECONDS,
                    sockets=MOST_SOCKETS,
                )
            return self._clients[name, endpoint]


def poster(websocket_api: WebsocketAPI) -> Post:
    """`websocket_api.send`, with its failures told apart by whether a repeat could deliver twice."""

    def post(connection_id: ConnectionId, text: str) -> None:
        try:
            websocket_api.send(connection_id, text)
        except WebsocketDisconnectedError as error:
            raise ConnectionGone("PostToConnection", "410") from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == THROTTLED_STATUS:
                raise Throttled("PostToConnection", code) from error
            raise PostFailed("PostToConnection", code) from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise NotWritten("PostToConnection", str(error)) from error
        except BotoCoreError as error:
            raise PostFailed("PostToConnection", str(error)) from error

    return post
