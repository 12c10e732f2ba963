"""Small Chalice apps for the server to serve, and how their tests look at what they saw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config

from tests import server
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi import ApiGatewayManagementApiClient

T = TypeVar("T")

TABLE_NAME = "tiny-dev"
TABLE = {"stages": {"dev": {"environment_variables": {"TABLE_NAME": TABLE_NAME}}}}
"""The config of an app with a table."""

WAIT_S = 20.0
"""The bound of every wait for something that must happen."""

_HEAD = """
import json, os, pathlib, threading, time
import boto3
from chalice import Chalice, Response

app = Chalice(app_name="tiny")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.Session()
here = pathlib.Path(__file__).parent

def record(event):
    with (here / "seen").open("a") as seen:
        seen.write(json.dumps(event.to_dict()) + "\\n")

def wait_for(name):
    for _ in range(2000):
        if (here / name).exists():
            return
        time.sleep(0.01)
    raise AssertionError(name)
"""

_TAIL = """
if os.environ.get("AWS_CHALICE_CLI_MODE"):
    import localaws
"""

RECORDER = """
@app.on_ws_connect()
def websocket_connect(event):
    record(event)

@app.on_ws_message()
def websocket_message(event):
    record(event)
    app.websocket_api.send(event.connection_id, event.body)

@app.on_ws_disconnect()
def websocket_disconnect(event):
    record(event)
"""
"""Handlers that write down each event and echo each message."""


def write_project(folder: Path, handlers: str = RECORDER, config: Mapping[str, Any] | None = None) -> Path:
    """A project whose app.py has these handlers; `record` and `wait_for` are there for them."""
    (folder / ".chalice").mkdir(exist_ok=True)
    (folder / ".chalice" / "config.json").write_text(
        json.dumps({"version": "2.0", "app_name": "tiny", **(config or {})})
    )
    (folder / "app.py").write_text(_HEAD + handlers + _TAIL)
    return folder


@dataclass(frozen=True)
class Tiny:
    """A tiny app, served."""

    server: Server
    project: Path

    @property
    def url(self) -> str:
        return self.server.url

    def touch(self, name: str) -> None:
        """End a handler's `wait_for`."""
        (self.project / name).touch()

    def seen(self) -> list[dict[str, Any]]:
        """The events that `record` has got, oldest first."""
        path = self.project / "seen"
        complete, _, _ = (path.read_text() if path.exists() else "").rpartition("\n")
        events: list[dict[str, Any]] = [json.loads(line) for line in complete.splitlines()]
        return events

    def event(self, event_type: str, connection_id: str | None = None) -> dict[str, Any]:
        """The last event of a type, and of a connection if told; waits for it."""
        return until(lambda: last(self.seen(), event_type, connection_id), f"a {event_type} event", self.server.log)

    def management(self, path: str = "/api") -> ApiGatewayManagementApiClient:
        """boto3's client, which does not repeat itself."""
        return management(self.server.http + path)


@contextmanager
def served(
    folder: Path,
    handlers: str = RECORDER,
    *,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Iterator[Tiny]:
    """A server for these handlers."""
    project = write_project(folder, handlers, config)
    with server.running_server(env=env, project=project, args=args) as running:
        yield Tiny(running, project)


def management(endpoint: str) -> ApiGatewayManagementApiClient:
    return boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def last(events: Sequence[dict[str, Any]], event_type: str, connection_id: str | None) -> dict[str, Any] | None:
    """The last event of a type, and of a connection if told."""
    for event in reversed(events):
        context = event["requestContext"]
        if context["eventType"] == event_type and connection_id in {None, context["connectionId"]}:
            return dict(event)
    return None


def until(find: Callable[[], T | None], what: str, log: Callable[[], str] = str) -> T:
    """What `find` returns once it is not None; AssertionError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while (found := find()) is None:
        assert time.monotonic() < deadline, f"still waiting for {what}\n{log()}"
        time.sleep(0.01)
    return found
