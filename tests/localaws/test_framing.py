"""Malformed handshakes and frames at a running server: the right answer, no hang, and no harm to anyone else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Opcode

from tests.localaws.raw import BINARY, CLOSE, CONT, FRAME_BYTES, PING, TEXT, WAIT_S, Raw, closing, frame, upgrade
from tests.localaws.tiny import Tiny, served, until

HANDLERS = """
from chalice import WebsocketDisconnectedError

@app.on_ws_connect()
def connect(event):
    record(event)
    query = event.to_dict().get("queryStringParameters", {})
    if "wait" in query:
        wait_for(query["wait"])

@app.on_ws_message()
def message(event):
    try:
        app.websocket_api.send(event.connection_id, event.body[:100])
    except WebsocketDisconnectedError:
        pass  # its client did not wait for it

@app.on_ws_disconnect()
def disconnect(event):
    record(event)
"""

NUMBERS = count()
CODES = {1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1013, 1014, *range(3000, 5000)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running
        assert "Traceback" not in running.server.log()


@pytest.fixture
def others(tiny: Tiny) -> Iterator[None]:
    """Another client, whose messages come back all the while, and once more at the end."""
    ended = threading.Event()

    def talk() -> None:
        with Raw(tiny.server.port) as other:
            while True:
                last = ended.is_set()
                other.send(frame(TEXT, b"still there?"))
                assert other.text() == "still there?"
                if last:
                    return
                ended.wait(0.01)

    with ThreadPoolExecutor(1) as pool:
        talking = pool.submit(talk)
        yield
        ended.set()
        talking.result()


pytestmark = pytest.mark.usefixtures("others")


# Handshakes


@contextlib.contextmanager
def answered(tiny: Tiny, data: bytes) -> Iterator[Iterator[bytes]]:
    """The lines that a request's bytes are answered with; they end where the server ends the connection."""
    with socket.create_connection(("127.0.0.1", tiny.server.port), timeout=WAIT_S) as raw, raw.makefile("rb") as lines:
        raw.sendall(data)
        yield iter(lines)


KEY, VERSION = "Sec-WebSocket-Key", "Sec-WebSocket-Version"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (upgrade(without=[VERSION]), 400),
        (upgrade(without=[VERSION], more={VERSION: "8"}), 400),
        (upgrade(more={VERSION.lower(): "13"}), 400),
        (upgrade(without=[KEY]), 400),
        (upgrade(without=[KEY], more={KEY: "AAAA"}), 400),
        (upgrade(without=[KEY], more={KEY: "é" * 22}), 400),
        (upgrade(more={KEY.lower(): "AAAAAAAAAAAAAAAAAAAAAA=="}), 400),
        (upgrade(without=["Connection"]), 426),
        (upgrade(more={"upgrade": "h2c"}), 426),
        (upgrade(without=["Upgrade"], more={"Upgrade": "h2c, websocket"}), 426),
        (upgrade("POST / HTTP/1.1"), 400),
        (upgrade("PUT / HTTP/1.1", more={"Content-Length": "2"}) + b"{}", 400),
        (upgrade("GET / HTTP/1.0"), 400),
        (upgrade("GET / HTTP/2.0"), 400),
        (upgrade(more={"Content-Length": "5"}) + b"hello", 400),
        (upgrade(more={"Content-Length": "5"}) + b"hel", 400),
        (upgrade(more={"Transfer-Encoding": "chunked"}) + b"5\r\nhel", 400),
        (upgrade(more={"Content-Length": "-1"}), 400),
        (upgrade(without=["Host"]), 400),
        (upgrade("GET /other HTTP/1.1"), 403),
        (upgrade(f"GET /?{'x' * 4_088} HTTP/1.1"), 414),
        (upgrade(f"GET /?{'x' * 20_000} HTTP/1.1"), 400),
        (upgrade(more={"X": "y" * 20_000}), 400),
        (upgrade(more={f"X{number}": "y" for number in range(200)}), 400),
        (upgrade(more={"X": "a\0b"}), 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(200), 400),
        (b"\x00\xff\x01 nothing that HTTP is\r\n\r\n", 400),
    ],
)
def test_a_handshake_that_is_wrong_is_refused_with_a_status_that_says_why(tiny: Tiny, data: bytes, status: int) -> None:
    with answered(tiny, data) as lines:
        assert int(next(lines).split()[1]) == status


def test_a_refusal_says_what_was_wrong_and_what_would_be_taken(tiny: Tiny) -> None:
    with answered(tiny, upgrade(without=[VERSION], more={VERSION: "8"})) as lines:
        refusal = list(lines)
    assert b"Sec-WebSocket-Version: 13\r\n" in refusal
    assert refusal[-1].endswith(b"invalid Sec-WebSocket-Version header: 8.\n")


def test_a_url_of_4096_characters_is_taken(tiny: Tiny) -> None:
    with Raw(tiny.server.port, path=f"/?{'x' * (4_096 - len('wss://x/?'))}") as client:
        client.send(frame(TEXT, b"hi"))
        assert client.text() == "hi"


def test_frames_that_come_with_the_handshake_are_not_lost(tiny: Tiny) -> None:
    with Raw(tiny.server.port, early=frame(TEXT, b"early") + frame(TEXT, b"half")[:-1]) as client:
        assert client.text() == "early"
        client.send(b"f")
        assert client.text() == "half"


def test_frames_that_come_while_connect_runs_wait_for_it(tiny: Tiny) -> None:
    early = frame(TEXT, b"x" * FRAME_BYTES) * 30
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(Raw, tiny.server.port, path="/?wait=opened", early=early)
        connected(tiny, "wait", "opened")
        tiny.touch("opened")
        with opening.result() as client:
            assert [client.text() for _ in range(30)] == ["x" * 100] * 30


def test_a_request_may_come_before_a_handshake_on_the_same_socket(tiny: Tiny) -> None:
    with answered(tiny, upgrade("GET /other HTTP/1.1") + upgrade()) as lines:
        assert next(lines).startswith(b"HTTP/1.1 403 ")
        assert any(b"HTTP/1.1 101 " in line for line in lines)


# Frames


def connected(tiny: Tiny, name: str, value: str) -> str:
    """The id of the connection whose URL has such a parameter."""

    def find() -> str | None:
        for event in tiny.seen():
            if event.get("queryStringParameters", {}).get(name) == value:
                return str(event["requestContext"]["connectionId"])
        return None

    return until(find, f"a connection with {name}={value}", tiny.server.log)


def numbered(tiny: Tiny) -> tuple[Raw, str]:
    """A client, and its connection's id."""
    number = str(next(NUMBERS))
    client = Raw(tiny.server.port, path=f"/?number={number}")
    return client, connected(tiny, "number", number)


def disconnect_code(tiny: Tiny, connection_id: str) -> int:
    return int(tiny.event("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"])


def far_too_long() -> bytes:
    return frame(TEXT, b"x" * FRAME_BYTES, fin=False) + frame(CONT, b"x" * FRAME_BYTES, fin=False) * 4


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(3, b"x"), 1002),
        (frame(TEXT, b"x", reserved=4), 1002),
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(PING, fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
        (closing(1005), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xc3"), 1007),
        (frame(BINARY, b"x"), 1003),
        (frame(TEXT, b"x" * (FRAME_BYTES + 1)), 1009),
        (frame(TEXT, length=1 << 63), 1009),
        (far_too_long(), 1009),
    ],
)
def test_what_is_not_allowed_closes_the_socket_and_disconnect_says_the_same_code(
    tiny: Tiny, data: bytes, code: int
) -> None:
    client, connection_id = numbered(tiny)
    with client:
        client.send(data)
        close = client.close_at_the_end()
        assert close is not None and close.code == code
    assert disconnect_code(tiny, connection_id) == code


def test_a_close_frame_is_answered_by_the_same_and_the_end(tiny: Tiny) -> None:
    client, connection_id = numbered(tiny)
    with client:
        client.send(closing(4001, b"bye"))
        assert client.close_at_the_end() == Close(4001, "bye")
    assert disconnect_code(tiny, connection_id) == 4001


@pytest.mark.parametrize("data", [b"\x81", frame(TEXT, b"half")[:-1], frame(TEXT, b"half", fin=False), frame(PING)[:3]])
def test_a_client_that_ends_in_the_middle_is_lost(tiny: Tiny, data: bytes) -> None:
    client, connection_id = numbered(tiny)
    with client:
        client.send(data)
        client.end()
        assert client.close_at_the_end() is None
    assert disconnect_code(tiny, connection_id) == 1006


def test_pings_are_answered_between_messages_and_within_one(tiny: Tiny) -> None:
    with Raw(tiny.server.port) as client:
        client.send(frame(TEXT, b"a", fin=False) + frame(PING, b"within") * 500 + frame(CONT, b"b"))
        for _ in range(500):
            pong = client.frame()
            assert pong is not None and (pong.opcode, pong.data) == (Opcode.PONG, b"within")
        assert client.text() == "ab"


def test_a_client_that_pings_and_never_reads_is_disconnected(tiny: Tiny) -> None:
    client, connection_id = numbered(tiny)
    with client, pytest.raises(OSError):
        for _ in range(400):  # 50 MB
            client.send(frame(PING, b"x" * 125) * 1_000)
    assert disconnect_code(tiny, connection_id) == 1008


streams = st.lists(
    st.builds(frame, st.sampled_from([TEXT, CONT, PING, CLOSE, BINARY]), st.binary(max_size=130), fin=st.booleans()),
    max_size=6,
).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Right frames, and then some of their bytes are others, gone or new."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(mutated() | st.binary(max_size=200))
def test_any_bytes_at_all_are_answered_by_frames_and_an_end(tiny: Tiny, data: bytes) -> None:
    with Raw(tiny.server.port) as client:
        with contextlib.suppress(OSError):  # it has ended already
            client.send(data)
        client.end()
        close = client.close_at_the_end()
        assert close is None or close.code in CODES | {1005}


# Clients that take their time


def test_a_handshake_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS, env={"LOCALAWS_REQUEST_MS": "300"}) as impatient:
        for begun in (b"", b"GET / HT", upgrade()[:-2]):
            with socket.create_connection(("127.0.0.1", impatient.server.port), timeout=WAIT_S) as raw:
                raw.sendall(begun)
                assert raw.recv(1) == b""
        with socket.create_connection(("127.0.0.1", impatient.server.port), timeout=0.02) as dripping:
            dripping.sendall(upgrade()[:-2] + b"X: ")
            until(lambda: drips(dripping), "the end of a handshake that comes byte by byte")


def drips(raw: socket.socket) -> bool | None:
    """Sends one more byte. Whether it was too much."""
    try:
        raw.sendall(b"y")
        return raw.recv(1) == b"" or None
    except TimeoutError:
        return None
    except OSError:
        return True


@pytest.mark.parametrize("setting", ["LOCALAWS_IDLE_MS", "LOCALAWS_LIFE_MS"])
def test_idle_and_life_time_are_settable_and_end_with_1001(tmp_path: Path, setting: str) -> None:
    with served(tmp_path, HANDLERS, env={setting: "300"}) as brief:
        for data in (b"", frame(TEXT, b"half")[:-1], frame(TEXT, b"half", fin=False)):
            client, connection_id = numbered(brief)
            with client:
                client.send(data)
                assert client.close_at_the_end() == Close(1001, "Going away")
            context = brief.event("DISCONNECT", connection_id)["requestContext"]
            assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1001, "Going away")


def test_the_server_ends_whatever_its_clients_do(tmp_path: Path) -> None:
    with contextlib.ExitStack() as clients:
        with served(tmp_path, HANDLERS) as ending:
            for data in (b"", frame(TEXT, b"half")[:-1], frame(3)):
                clients.enter_context(Raw(ending.server.port)).send(data)
            for begun in (b"", upgrade()[:-2], upgrade(more={"Content-Length": "5"}) + b"hel"):
                raw = socket.create_connection(("127.0.0.1", ending.server.port), timeout=WAIT_S)
                clients.enter_context(raw).sendall(begun)
            deaf = clients.enter_context(Raw(ending.server.port))
            deaf.send(frame(PING, b"x" * 125) * 20_000)
        assert ending.server.process.returncode is not None


# What it rests on


def test_aiohttp_hands_over_a_socket_as_its_own_websockets_take_it() -> None:
    """`set_parser` is not documented: bytes that came early, bytes that come, the end, and a server that can stop."""
    told: list[Any] = []

    class Parser:
        def feed_data(self, data: bytes) -> tuple[bool, bytes]:
            told.append(data)
            return False, b""

        def feed_eof(self) -> None:
            told.append("the end")

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=101)
        response.force_close()
        await response.prepare(request)
        request.protocol.set_parser(Parser())  # type: ignore[arg-type]
        while "the end" not in told:
            await asyncio.sleep(0.001)
        return response

    async def scenario() -> None:
        application = web.Application()
        application.router.add_get("/", handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upgrade() + b"early")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"transfer-encoding" not in head.lower()
        writer.write(b"later")
        while told != [b"early", b"later"]:
            await asyncio.sleep(0.001)
        writer.close()
        while told[-1] != "the end":
            await asyncio.sleep(0.001)
        _, left_open = await asyncio.open_connection("127.0.0.1", port)
        await runner.cleanup()
        left_open.close()

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
