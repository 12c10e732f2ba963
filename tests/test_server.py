"""What clients of a running server see: whatever one of them sends is answered, and the others notice nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection

from bench.fanout import measure

from .localaws.raw import FRAME_BYTES, in_frames
from .server import ROOT, Server, running_server

PATIENCE = 30


@pytest.fixture(scope="module", name="server")
def a_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def client(server: Server, room: str = "") -> ClientConnection:
    return connect(f"{server.url}?room={quote(room)}", compression=None, max_size=2**20)


def ask(socket: Connection, frame: object) -> Any:
    """Sends text, or JSON; returns the next frame that comes: JSON where it is an object, else text."""
    text = frame if isinstance(frame, str) else json.dumps(frame)
    socket.send(in_frames(text) if len(text) > FRAME_BYTES else text)
    return receive(socket)


def receive(socket: Connection) -> Any:
    text = socket.recv(PATIENCE)
    assert isinstance(text, str)
    return json.loads(text) if text.startswith("{") else text


KB = 1_024


def error(code: str) -> dict[str, str]:
    return {"type": "error", "code": code}


BAD_INPUT: list[tuple[str, Any]] = [
    ("hello", "Marko?"),
    ("", "Marko?"),
    ("{", "Marko?"),
    ("NaN", "Marko?"),
    ("Infinity", "Marko?"),
    ('{"type":"message","data":-Infinity}', "Marko?"),
    ("null", error("wrong_type")),
    ("7", error("wrong_type")),
    ("[]", error("wrong_type")),
    ('"text"', error("wrong_type")),
    ("{}", error("missing_field")),
    ('{"type":"message","data":1e400}', error("invalid_number")),
    ('{"type":"message","data":' + "9" * 5_000 + "}", error("invalid_number")),
    ("[" * 60_000, error("too_deep")),
    ('{"a":' * 20_000 + "1" + "}" * 20_000, error("too_deep")),
    ('{"type":"nope","type":"message","data":"last wins"}', "last wins"),
    ('{"type":"message","data":"\\ud800"}', "\ufffd"),
    ('{"action":"joinchannel","channel":"\\ud800"}', {"channel": "\ud800"}),
    ('{"action":"joinchannel","channel":""}', {"channel": ""}),
    ('{"action":"joinchannel","channel":"@connection#x"}', {"channel": "@connection#x"}),
    (json.dumps({"action": "joinchannel", "channel": "x" * 100 * KB}), {"channel": "x" * 100 * KB}),
    ('{"action":"joinchannel"}', error("missing_field")),
    ('{"action":"joinchannel","channel":["a"]}', error("wrong_type")),
    ('{"action":"sendmessage","message":1,"ack":"yes"}', error("wrong_type")),
    ('{"action":"sendmessage","message":1,"id":{}}', error("wrong_type")),
    ('{"action":"no such action"}', error("unknown_action")),
    ('{"type":"subscribe","topics":{"a":1}}', error("wrong_type")),
    (json.dumps({"type": "message", "data": "x" * (127 * KB)}), "x" * (127 * KB)),
    (json.dumps({"type": "message", "data": "x" * (128 * KB - 40)}), error("too_large")),
]


@pytest.mark.parametrize(("frame", "answer"), BAD_INPUT, ids=range(len(BAD_INPUT)))
def test_a_frame_is_answered_and_its_sender_lives_on(server: Server, frame: str, answer: Any) -> None:
    with client(server, "bad") as socket, client(server, "good") as other:
        came = ask(socket, frame)
        if isinstance(answer, dict):
            assert came.items() >= answer.items()
        else:
            assert came == answer
        assert "Traceback" not in str(came)
        assert ask(socket, "Marko?") == "Polo!"
        assert ask(other, {"type": "message", "data": "undisturbed"}) == "undisturbed"


def test_a_message_over_128_kb_closes_its_sender_alone(server: Server) -> None:
    with client(server, "good") as other:
        with client(server, "bad") as socket:
            socket.send(in_frames("x" * (129 * KB)))
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(PATIENCE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        assert ask(other, "Marko?") == "Polo!"


def test_two_thousand_topics_in_one_subscribe_are_joined(server: Server) -> None:
    with client(server) as page, client(server) as sender:
        page.send(in_frames(json.dumps({"type": "subscribe", "topics": [f"doc {n}" for n in range(2_000)]})))
        deadline = time.monotonic() + PATIENCE
        joined = 0
        while joined < 2_000 and time.monotonic() < deadline:
            publish = {"action": "sendmessage", "channel": f"doc {joined}", "message": 1, "ack": True}
            joined += ask(sender, publish)["delivered"]
        assert joined == 2_000


def test_two_thousand_members_get_twenty_messages_of_2_kb_each_once() -> None:
    with running_server(env={"LOCALAWS_CONNECT_RATE": "0"}) as server:
        report = measure(server.url, members=2_000, publishes=20, size=2 * KB)
    assert (report.lost, report.twice, report.acked) == (0, 0, 40_000)


@pytest.fixture(name="project")
def a_project(tmp_path: Path) -> Path:
    """A copy of what is deployed, to be changed."""
    for folder in ("chalicelib", ".chalice"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_broadcasts_while_two_hundred_clients_connect_lose_no_member(project: Path) -> None:
    """Each $connect takes 0.3 s to return after its write, so that broadcasts find members that are not open yet."""
    slow = "    answer = handlers.connect(event.to_dict(), app.websocket_api)\n    time.sleep(0.3)\n    return answer\n"
    change(project / "app.py", "    return handlers.connect(event.to_dict(), app.websocket_api)\n", slow)
    change(project / "app.py", "import os\n", "import os\nimport time\n")

    async def scenario(server: Server) -> list[str]:
        url = f"{server.url}?room=crowd"
        connected = asyncio.Event()

        async def broadcast() -> None:
            async with connect_async(url) as speaker:
                while not connected.is_set():
                    await speaker.send('{"type":"message","data":"early"}')
                    while await asyncio.wait_for(speaker.recv(), PATIENCE) != "early":
                        pass

        speaking = [asyncio.create_task(broadcast()) for _ in range(3)]
        members = await asyncio.gather(*(connect_async(url, open_timeout=PATIENCE) for _ in range(200)))
        connected.set()
        await asyncio.gather(*speaking)
        await members[0].send('{"type":"message","data":"last"}')

        async def last(member: Any) -> str:
            async for text in member:
                if text == "last":
                    return "last"
            return "closed"

        heard = await asyncio.wait_for(asyncio.gather(*map(last, members)), PATIENCE)
        await asyncio.gather(*(member.close() for member in members))
        return heard

    with running_server(project=project) as server:
        assert asyncio.run(scenario(server)) == ["last"] * 200


def test_without_its_tables_name_the_server_refuses_connects_and_says_what_to_set(project: Path) -> None:
    change(project / ".chalice/config.json", '"TABLE_NAME": "channels-dev",', "")
    with running_server(project=project) as server:
        with pytest.raises(InvalidStatus) as refused, client(server):
            pass
        assert 500 <= refused.value.response.status_code < 600
        assert "TABLE_NAME is not set" in server.log()


def test_a_custom_action_is_one_file_and_one_line(project: Path) -> None:
    (project / "chalicelib/actions/shout.py").write_text(
        "from .call import Call\n\n\n"
        "def shout(call: Call) -> None:\n"
        '    call.publish(call.channel(), call.frame.string("message").upper(), to_sender=True)\n'
    )
    registry = project / "chalicelib/actions/__init__.py"
    change(registry, '    "chat": chat,\n', '    "chat": chat,\n    "shout": shout,\n')
    change(registry, "from .chat import chat\n", "from .chat import chat\nfrom .shout import shout\n")
    with running_server(project=project) as server, client(server, "lobby") as socket:
        assert ask(socket, {"action": "shout", "message": "hello"}) == "HELLO"
        assert ask(socket, {"action": "shout", "message": 5})["code"] == "wrong_type"


def test_an_action_that_fails_is_answered_without_its_cause(project: Path) -> None:
    change(
        project / "chalicelib/actions/chat.py", "    channel = call.channel()\n", "    raise RuntimeError('hidden')\n"
    )
    with running_server(project=project) as server, client(server, "lobby") as socket:
        answer = ask(socket, {"action": "chat", "message": 1, "id": "3"})
        assert (answer["code"], answer["id"]) == ("internal", "3")
        assert "hidden" not in json.dumps(answer)
        assert "RuntimeError: hidden" in server.log()
        assert ask(socket, "Marko?") == "Polo!"
