"""What a backend publishes to a running server, and what a handler cannot finish: as on AWS, by Lambda's own API."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from websockets.asyncio.client import connect

from .server import ROOT, Server, running_server

PATIENCE = 30
FUNCTION = "channels-dev-publish"


@pytest.fixture(scope="module", name="server")
def a_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def publish(server: Server, event: Any, kind: str = "RequestResponse") -> Any:
    """Invokes the function; returns what it returned, or its error."""
    client = boto3.client(
        "lambda",
        endpoint_url=server.http,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
    )
    try:
        answer = client.invoke(FunctionName=FUNCTION, InvocationType=kind, Payload=json.dumps(event))
        payload = answer["Payload"].read()
    finally:
        client.close()
    return json.loads(payload) if payload else answer["StatusCode"]


def test_a_backend_reaches_clients_in_each_dialect(server: Server) -> None:
    async def scenario() -> list[Any]:
        async with connect(f"{server.url}?room=shop") as bare, connect(f"{server.url}?room=") as page:
            await page.send('{"type":"subscribe","topics":["shop"]}')
            await page.send('{"type":"ping"}')
            assert json.loads(await page.recv()) == {"type": "pong"}
            while (sent := await asyncio.to_thread(publish, server, event))["delivered"] < 2:
                pass  # the page's subscribe was under way
            assert sent["failed"] == 0
            texts = [await asyncio.wait_for(socket.recv(), PATIENCE) for socket in (bare, page)]
            return [json.loads(text) for text in texts]

    event = {"channel": "shop", "message": {"price": 5}}
    bare, page = asyncio.run(scenario())
    assert bare == {"price": 5}
    assert page == {"type": "publish", "topic": "shop", "data": {"price": 5}, "clients": 2}


def test_an_event_of_another_shape_is_answered_with_what_was_expected(server: Server) -> None:
    error = publish(server, {"chanel": "shop", "message": 1})
    assert error["errorType"] == "UnknownName"
    assert "There is no field 'chanel' here; there is: channel, message" in error["errorMessage"]
    assert error["stackTrace"] == []


def test_an_event_that_nobody_waits_for_is_sent_once(server: Server) -> None:
    async def scenario() -> list[str]:
        async with connect(f"{server.url}?room=once") as socket:
            event = {"channel": "once", "message": "hello", "id": "order-5"}
            for _ in range(2):
                assert await asyncio.to_thread(publish, server, event, "Event") == 202
            await asyncio.to_thread(publish, server, {"channel": "once", "message": "last"})
            heard = []
            while "last" not in heard or "hello" not in heard:
                heard.append(str(await asyncio.wait_for(socket.recv(), PATIENCE)))
            return heard

    assert sorted(asyncio.run(scenario())) == ["hello", "last"]
    assert publish(server, {"channel": "once", "message": "hello", "id": "order-5"})["already_sent"]


@pytest.fixture(name="project")
def a_project_whose_functions_end_soon(tmp_path: Path) -> Path:
    """A handler and the publish function draw for two thirds of their 3 s, at 40 posts a second, 8 at once."""
    for folder in ("chalicelib", ".chalice"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path)
    file = tmp_path / ".chalice/config.json"
    config = json.loads(file.read_text())
    stage = config["stages"]["dev"]
    stage["environment_variables"]["BROADCAST_RATE"] = "40"
    stage["environment_variables"]["BROADCAST_THREADS"] = "8"
    stage["lambda_functions"]["websocket_message"]["lambda_timeout"] = 3
    stage["lambda_functions"]["publish"]["lambda_timeout"] = 3
    file.write_text(json.dumps(config))
    return tmp_path


def test_a_crowd_that_one_invocation_cannot_finish_gets_the_message_once_each(project: Path) -> None:
    """300 members, at most some 120 for each invocation."""

    async def scenario(server: Server) -> tuple[dict[str, Any], list[list[str]]]:
        sockets = await asyncio.gather(
            *(connect(f"{server.url}?room=crowd", open_timeout=PATIENCE) for _ in range(300))
        )
        async with connect(f"{server.url}?room=") as sender:
            frame = {"action": "sendmessage", "channel": "crowd", "message": "hello", "ack": True}
            await sender.send(json.dumps(frame))
            ack = json.loads(await asyncio.wait_for(sender.recv(), PATIENCE))
            heard = [[str(await asyncio.wait_for(socket.recv(), PATIENCE))] for socket in sockets]
        await asyncio.gather(*(socket.close() for socket in sockets))
        # What comes twice comes before the close frame that answers ours.
        for texts, socket in zip(heard, sockets, strict=True):
            texts += [str(text) async for text in socket]
        return ack, heard

    with running_server(project=project) as server:
        ack, heard = asyncio.run(scenario(server))
        assert heard == [["hello"]] * 300
        assert (ack["handed_on"], ack["stale"]) == (1, 0)
        assert 50 <= ack["delivered"] < 250
        log = server.log()
        assert log.count("handed_on=1") >= 2
        assert log.count("published") == log.count("handed_on=1") + 1
