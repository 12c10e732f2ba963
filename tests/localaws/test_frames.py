"""Handshakes and frames without a socket: what is taken, what is sent, and with which code the rest ends."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from localaws.frames import Close, Frames, handshake
from tests.localaws.raw import BINARY, CLOSE, CONT, FRAME_BYTES, HEADERS, PING, PONG, TEXT, closing, frame

T = TypeVar("T")

NO_STATUS = Close(1005, "Client-side close frame status not set")


def sent_by(server: Frames) -> list[Frame]:
    """What a client reads of what the server has to send; the end of it is left out."""
    client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
    for data in server.to_send():
        if data:
            client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


def close_code(server: Frames) -> int | None:
    """The code of the close frame, which is the last frame, and is followed by the end."""
    frames = sent_by(server)
    if not frames or frames[-1].opcode is not Opcode.CLOSE:
        return None
    return int.from_bytes(bytes(frames[-1].data)[:2], "big") if frames[-1].data else 1005


# Handshakes


def answered(**changed: str | None) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    headers = [(name, value) for name, value in {**HEADERS, **named}.items() if value is not None]
    answer = handshake("/", headers)
    return answer.status_code, answer.body.decode()


def test_a_right_handshake_is_accepted_with_the_answer_of_the_rfc() -> None:
    key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    answer = handshake("/", [key, *((name, value) for name, value in HEADERS.items() if name != key[0])])
    assert answer.status_code == 101
    assert answer.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_compression_may_be_offered_and_is_not_taken() -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    answer = handshake("/", [*HEADERS.items(), offer])
    assert answer.status_code == 101
    assert "Sec-WebSocket-Extensions" not in answer.headers


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Sec-WebSocket-Version"])
@pytest.mark.parametrize("value", [None, "", "8", "AAAA", "13, 8", "é" * 22, "\udcff", "x" * 8_000])
def test_a_wrong_key_or_version_is_a_bad_request_that_names_it(name: str, value: str | None) -> None:
    status, why = answered(**{name: value})
    assert (status, name in why) == (400, True)


@pytest.mark.parametrize("name", ["Upgrade", "Connection"])
@pytest.mark.parametrize("value", [None, "", "h2c", "websocket, h2c", "close", "é", "a/b/c"])
def test_another_upgrade_is_told_to_upgrade_or_is_a_bad_request(name: str, value: str | None) -> None:
    status, why = answered(**{name: value})
    assert status in {400, 426}
    assert name in why


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.none() | st.text(max_size=40)))
def test_no_header_is_more_than_a_refusal(changed: dict[str, str | None]) -> None:
    assert answered(**changed)[0] in {101, 400, 426}


# Messages that are taken


def full(opcode: int) -> bytes:
    """As large as a frame may be, and not the last of its message."""
    return frame(opcode, b"x" * FRAME_BYTES, fin=False)


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (frame(TEXT, b"hi"), ["hi"]),
        (frame(TEXT), [""]),
        (frame(TEXT, b"a") + frame(TEXT, b"b"), ["a", "b"]),
        (frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"), ["abc"]),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xa9"), ["é"]),
        (frame(TEXT, b"a", fin=False) + frame(PING) + frame(PONG) + frame(CONT, b"b"), ["ab"]),
        (frame(PONG, b"unasked"), []),
        (frame(TEXT, b"x" * FRAME_BYTES), ["x" * FRAME_BYTES]),
        (full(TEXT) + full(CONT) * 3 + frame(CONT), ["x" * 4 * FRAME_BYTES]),
        (frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 1_000 + frame(CONT, b"end"), ["end"]),
    ],
)
def test_messages_are_taken_whole_however_they_are_framed(data: bytes, texts: list[str]) -> None:
    server = Frames()
    assert server.receive(data) == texts
    assert server.closed is None


@settings(deadline=None)
@given(st.lists(st.text(max_size=300), max_size=5), st.data())
def test_it_does_not_matter_how_the_bytes_arrive(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(frame(TEXT, text.encode()) for text in texts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    server = Frames()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [text for piece in pieces for text in server.receive(piece)] == texts


def test_a_ping_is_answered_by_a_pong_with_its_payload() -> None:
    server = Frames()
    for payload in (b"", b"payload", b"x" * 125):
        server.receive(frame(PING, payload))
        assert [(each.opcode, bytes(each.data)) for each in sent_by(server)] == [(Opcode.PONG, payload)]


def test_every_one_of_many_pings_is_answered() -> None:
    server = Frames()
    server.receive(frame(PING, b"again") * 1_000)
    assert len(sent_by(server)) == 1_000


# Messages that are sent


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES, 4 * FRAME_BYTES])
def test_a_text_is_sent_in_frames_that_a_frame_limit_lets_through(size: int) -> None:
    server = Frames()
    server.send(b"x" * size)
    frames = sent_by(server)
    assert [each.opcode for each in frames] == [Opcode.TEXT] + [Opcode.CONT] * (len(frames) - 1)
    assert [each.fin for each in frames] == [False] * (len(frames) - 1) + [True]
    assert max(len(each.data) for each in frames) <= FRAME_BYTES
    assert b"".join(bytes(each.data) for each in frames) == b"x" * size
    assert len(frames) == max(1, -(-size // FRAME_BYTES))


# Ends


@pytest.mark.parametrize(
    ("data", "code"),
    [
        *((frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        *((frame(TEXT, b"x", reserved=bits), 1002) for bits in range(1, 8)),
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(PING, masked=False), 1002),
        (frame(PING, fin=False), 1002),
        (frame(PONG, fin=False), 1002),
        (frame(CLOSE, fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
        (frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x") + frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        *((closing(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
        (closing(1000, b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xc3"), 1007),
        (frame(TEXT, b"\xf0\x9f", fin=False) + frame(CONT, b"\x98", fin=False) + frame(CONT), 1007),
        (frame(BINARY, b"x"), 1003),
        (frame(BINARY), 1003),
        (frame(BINARY, b"x", fin=False), 1003),
        (frame(TEXT, b"x" * (FRAME_BYTES + 1)), 1009),
        (frame(BINARY, b"x" * (FRAME_BYTES + 1)), 1009),
        (frame(TEXT, b"x", fin=False) + frame(CONT, b"x" * (FRAME_BYTES + 1)), 1009),
        (full(TEXT) + full(CONT) * 3 + frame(CONT, b"x"), 1009),
        *((frame(TEXT, length=length), 1009) for length in (FRAME_BYTES + 1, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1)),
    ],
)
def test_what_is_not_allowed_ends_it_with_a_code_that_says_why(data: bytes, code: int) -> None:
    server = Frames()
    assert server.receive(frame(TEXT, b"before") + data) in (["before"], ["before", "x"])
    assert close_code(server) == code
    assert server.closed is not None and server.closed.code == code
    assert server.receive(frame(TEXT, b"later") + frame(PING)) == []
    server.send(b"too late")
    server.close(1000)
    assert server.to_send() == []


@pytest.mark.parametrize(
    ("data", "close"),
    [
        (closing(1000), Close(1000)),
        (closing(1001, b"tab closed"), Close(1001, "tab closed")),
        (closing(3000), Close(3000)),
        (closing(4999, "ünï".encode() * 20), Close(4999, "ünï" * 20)),
        (frame(CLOSE), NO_STATUS),
    ],
)
def test_a_client_that_closes_is_answered_with_its_own_close_frame(data: bytes, close: Close) -> None:
    server = Frames()
    assert server.receive(frame(TEXT, b"before") + data + frame(TEXT, b"after")) == ["before"]
    assert server.closed == close
    *writes, end = server.to_send()
    assert b"".join(writes)[2:] == data[6:]
    assert end == b""


def test_a_server_that_closes_waits_for_the_clients_close_frame_and_takes_no_more_messages() -> None:
    server = Frames()
    server.send(b"last words")
    server.close(1001, "Going away")
    assert [bytes(each.data) for each in sent_by(server)] == [b"last words", b"\x03\xe9Going away"]
    assert server.receive(frame(TEXT, b"late") + frame(BINARY)) == []
    assert server.to_send() == []
    server.receive(closing(1001))
    assert server.to_send() == [b""]
    assert server.closed == Close(1001, "Going away")


def test_the_first_close_counts() -> None:
    server = Frames()
    server.close(1001, "Going away")
    server.close(1000)
    server.receive(closing(4000, b"me too"))
    server.receive_end()
    assert server.closed == Close(1001, "Going away")


@pytest.mark.parametrize("data", [b"", frame(TEXT, b"half")[:3], frame(TEXT, b"half", fin=False)])
def test_a_connection_that_is_lost_ends_with_1006(data: bytes) -> None:
    server = Frames()
    assert server.receive(data) == []
    server.receive_end()
    assert server.closed == Close(1006)


# Any bytes at all


class Sent(NamedTuple):
    """What a frame is made of."""

    opcode: int
    payload: bytes
    fin: bool
    reserved: int = 0
    masked: bool = True
    length: int = -1

    @property
    def size(self) -> int:
        return len(self.payload) if self.length < 0 else self.length


def either(usual: T, *others: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return st.one_of(*[st.just(usual)] * 12, *others)


payloads = st.binary(max_size=130) | st.text(max_size=40).map(str.encode) | st.just(b"x" * FRAME_BYTES)
sent = st.builds(
    Sent,
    opcode=st.sampled_from([TEXT, TEXT, TEXT, CONT, CONT, CONT, PING, PONG, CLOSE, BINARY]) | st.integers(0, 15),
    payload=payloads,
    fin=st.booleans(),
    reserved=either(0, st.integers(1, 7)),
    masked=either(True, st.just(False)),
    length=either(-1, st.integers(FRAME_BYTES + 1, (1 << 64) - 1)),
)


def verdict(each: Sent, message: bytes | None) -> int | str | bytes | None:  # noqa: PLR0911  one rule each
    """What a frame is to API Gateway while `message` is not complete: the code that it ends the connection with, a
    text that is complete, or what there is of one then.
    """
    control = each.opcode >= CLOSE
    if each.opcode not in {CONT, TEXT, BINARY, CLOSE, PING, PONG} or not each.masked:
        return 1002
    if each.size > min(FRAME_BYTES, 4 * FRAME_BYTES - len(message or b"")):
        return 1009
    if each.reserved or (control and (each.size > 125 or not each.fin)):
        return 1002
    if control:
        return close_verdict(each.payload, within=message is not None) if each.opcode == CLOSE else message
    if (each.opcode == CONT) != (message is not None):
        return 1002
    whole = (message or b"") + each.payload
    try:
        return 1003 if each.opcode == BINARY else whole.decode() if each.fin else whole
    except UnicodeDecodeError:
        return 1007


def close_verdict(payload: bytes, *, within: bool) -> int:
    """A close frame is answered with its own code, 1005 for none. Within a message it is a fault to the library."""
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return 1007
    code = int.from_bytes(payload[:2], "big") if payload else 1005
    known = code in {*range(1000, 1015), *range(3000, 5000)} - {1004, 1005, 1006}
    return code if not within and (known or not payload) and len(payload) != 1 else 1002


@settings(max_examples=300, deadline=None)
@given(st.lists(sent, min_size=1, max_size=8), st.data())
def test_any_sequence_of_frames_is_taken_or_ends_it_as_the_rfc_and_the_limits_say(
    sequence: list[Sent], data: st.DataObject
) -> None:
    server = Frames()
    message: bytes | None = None
    for each in sequence:
        stream = frame(**each._asdict())
        cut = data.draw(st.integers(0, len(stream)))
        texts = server.receive(stream[:cut]) + server.receive(stream[cut:])
        expected = verdict(each, message)
        assert texts == ([expected] if isinstance(expected, str) else [])
        if isinstance(expected, int):
            assert close_code(server) == expected
            return
        assert server.closed is None
        message = expected if isinstance(expected, bytes) else None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_at_all_are_read_on_or_end_it_with_a_code(pieces: list[bytes]) -> None:
    server = Frames()
    for piece in pieces:
        server.receive(piece)
        code = close_code(server)
        if server.closed is not None:
            assert code in {1002, 1003, 1007, 1009, server.closed.code, None}
            break
    server.receive_end()
    assert server.closed is not None
