"""Responses in any framing, cut anywhere: read whole or refused, never guessed."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import NamedTuple, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.http1 import MOST_BYTES, BadResponse, Response, read_response

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pieces(data: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    """The data, cut at those places."""
    places = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


def then_closed(data: bytes, cuts: Iterable[int] = ()) -> Callable[[], bytes]:
    """A connection that is closed after the data."""
    left = chain(pieces(data, cuts), repeat(b"", 3))

    def receive() -> bytes:
        piece = next(left, None)
        assert piece is not None, "reads on after the end"
        return piece

    return receive


def then_silent(data: bytes, cuts: Iterable[int] = ()) -> Callable[[], bytes]:
    """A connection that stays open: to ask it for more is to hang."""
    left = iter(pieces(data, cuts))

    def receive() -> bytes:
        piece = next(left, None)
        assert piece is not None, "waits for more than the response"
        return piece

    return receive


class Endless:
    """A connection on which the same bytes come again and again."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self.received = 0
        self._pieces: Iterator[bytes] = iter((first,))
        self._again = repeat(again)

    def __call__(self) -> bytes:
        piece = next(self._pieces, None) or next(self._again)
        self.received += len(piece)
        assert self.received < 4 * MOST_BYTES, "reads without end"
        return piece


# --- A model of responses, and how each may be written.


class Written(NamedTuple):
    """A response as it is sent, and as it must be read."""

    raw: bytes
    expected: Response
    framed: bool
    """Whether its end can be seen from within: by a length, chunks or a status that has no body."""

    @property
    def chunks_of_nothing(self) -> bool:
        return self.expected.status in {204, 304} and "transfer-encoding" in self.expected.headers


NAMES = st.text("ABCxyz0129-_.!#$%&'*+^`|~", min_size=1, max_size=8).map("X-{}".format)
VALUES = st.text("".join(map(chr, range(0x21, 0x7F))) + " \t", max_size=12).map(lambda value: value.strip(" \t"))
SPACES = st.sampled_from(["", " ", "\t", "  "])
CASES = st.sampled_from([str.lower, str.upper, str.title])
INTERIM = (100, 102, 103)
BODIES = st.binary(max_size=60) | st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5_000])


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    raw = b""
    for chunk in pieces(body, draw(st.lists(st.integers(1, 60), max_size=4))):
        size = f"{len(chunk):{draw(st.sampled_from(['x', 'X', '04x']))}}"
        extension = draw(st.sampled_from(["", ";a", " ; a=b", ';q="1;2"']))
        raw += f"{size}{extension}\r\n".encode() + chunk + b"\r\n"
    last = draw(st.sampled_from(["0", "000", "0;end"]))
    trailers = draw(st.sampled_from(["", "X-Sum: 1\r\n", "A: b\r\nC: d\r\n"]))
    return raw + f"{last}\r\n{trailers}\r\n".encode()


@st.composite
def written(
    draw: st.DrawFn, spaces_after: st.SearchStrategy[str] = SPACES, interim: Sequence[int] = INTERIM
) -> Written:
    status = draw(st.sampled_from([200, 204, 304, 403, 410, 429, 500, 503]) | st.integers(200, 599))
    bodiless = status in (204, 304)
    body = b"" if bodiless else draw(BODIES)
    framing = draw(st.sampled_from(["none" if bodiless else "close", "length", "chunked"]))
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    headers = [(name, value) for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))]
    payload = body
    if framing == "length":
        headers.append(("Content-Length", str(len(body))))
    if framing == "chunked":
        headers.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
        payload = b"" if bodiless else draw(chunked(body))
    connection = draw(st.sampled_from([None, "keep-alive", "close", "Close", "foo, close"]))
    if connection is not None:
        headers.append(("Connection", connection))
    headers = draw(st.permutations(headers))
    reason = draw(st.sampled_from([" OK", " Too Many Requests", " ", "", " \xe9"]))
    before = [f"HTTP/1.1 {each} Wait\r\nA: b\r\n\r\n" for each in draw(st.lists(st.sampled_from(interim), max_size=2))]
    raw = "".join(before).encode() + f"HTTP/1.{minor} {status}{reason}\r\n".encode("latin-1")
    for name, value in headers:
        raw += f"{draw(CASES)(name)}:{draw(SPACES)}{value}{draw(spaces_after)}\r\n".encode()
    expected: dict[str, str] = {}
    for name, value in headers:
        expected[name.lower()] = ", ".join([expected[name.lower()], value] if name.lower() in expected else [value])
    closes = connection is not None and "close" in connection.lower()
    reusable = minor == 1 and not closes and framing != "close"
    return Written(raw + b"\r\n" + payload, Response(status, expected, body, reusable), framing != "close")


CUTS = st.lists(st.integers(1, 400), max_size=12)


@settings(thorough, max_examples=400)
@given(written(), CUTS)
def test_a_response_in_any_framing_cut_anywhere_is_read_whole(response: Written, cuts: list[int]) -> None:
    ends = then_silent if response.framed else then_closed
    assert read_response(ends(response.raw, cuts)) == response.expected


@settings(thorough, max_examples=60)
@given(written())
def test_a_response_that_comes_byte_by_byte_is_read_whole(response: Written) -> None:
    ends = then_silent if response.framed else then_closed
    assert read_response(ends(response.raw, range(len(response.raw)))) == response.expected


@settings(thorough, max_examples=150)
@given(written(spaces_after=st.just(""), interim=(100,)).filter(lambda response: not response.chunks_of_nothing), CUTS)
def test_a_response_is_read_as_pythons_own_http_client_reads_it(response: Written, cuts: list[int]) -> None:
    """As far as that goes: it knows no interim status but 100, stumbles over a space after "chunked", and looks for
    chunks where a status has no body.
    """
    read = read_response(then_closed(response.raw, cuts))
    theirs = http.client.HTTPResponse(cast(socket.socket, _Replayed(response.raw)))
    theirs.begin()
    body = theirs.read()
    assert (read.status, read.body) == (theirs.status, body)
    for name in read.headers:
        assert read.headers[name] == ", ".join(value.strip(" \t") for value in theirs.msg.get_all(name, []))
    assert not (read.reusable and theirs.will_close)


class _Replayed:
    """What http.client takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@settings(thorough, max_examples=80)
@given(written(), st.data())
def test_a_response_that_ends_early_is_never_taken_for_whole(response: Written, data: st.DataObject) -> None:
    body_at = len(response.raw) if response.framed else response.raw.rindex(response.expected.body)
    head = response.raw[:body_at]
    some = data.draw(st.lists(st.integers(0, len(head) - 1), max_size=20))
    for end in {*range(min(len(head), 120)), *range(max(0, len(head) - 20), len(head)), *some}:
        with pytest.raises(BadResponse):
            read_response(then_closed(head[:end]))


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n02\r\nlo\r\n0\r\nSum: 5\r\n\r\n"


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, b"HTTP/1.1 204 \r\n\r\n"])
def test_every_beginning_of_a_response_is_refused(raw: bytes) -> None:
    assert read_response(then_silent(raw)).reusable
    for end in range(len(raw)):
        for cuts in ((), range(end)):
            with pytest.raises(BadResponse):
                read_response(then_closed(raw[:end], cuts))


def test_what_ends_with_the_connection_is_all_that_came() -> None:
    raw = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    for body in (b"", b"hel", b"hello"):
        assert read_response(then_closed(raw + body)) == Response(200, {"x": "y"}, body, reusable=False)


@settings(thorough, max_examples=60)
@given(written().filter(lambda response: response.expected.reusable), st.binary(min_size=1, max_size=9))
def test_bytes_after_a_response_spoil_the_connection_but_not_the_response(response: Written, more: bytes) -> None:
    assert read_response(then_silent(response.raw + more)) == Response(
        response.expected.status, response.expected.headers, response.expected.body, reusable=False
    )


# --- Oddities, each by itself.


def answer(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode("latin-1") + body


TWENTY = b"01234567899876543210"


@pytest.mark.parametrize(
    ("raw", "body", "reusable"),
    [
        (answer("content-length:5", body=b"hello"), b"hello", True),
        (answer("CONTENT-LENGTH: \t 05 ", body=b"hello"), b"hello", True),
        (answer("Content-Length: 0"), b"", True),
        (answer("transfer-encoding:CHUNKED", body=b"0\r\n\r\n"), b"", True),
        (answer("Transfer-Encoding: chunked", body=b"A\r\n0123456789\r\na\r\n9876543210\r\n0\r\n\r\n"), TWENTY, True),
        (answer("Transfer-Encoding: chunked", "Content-Length: 3", body=b"1\r\nx\r\n0\r\n\r\n"), b"x", False),
        (answer("Content-Length: 3", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n"), b"x", False),
        (answer("Connection: close", "Content-Length: 1", body=b"x"), b"x", False),
        (answer("Connection: Keep-Alive", "connection: CLOSE", "Content-Length: 1", body=b"x"), b"x", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", b"x", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + LENGTH, b"hello", True),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\nA: c\r\n\r\n" + LENGTH, b"hello", True),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    ],
)  # fmt: skip
def test_odd_but_right_responses_are_read(raw: bytes, body: bytes, reusable: bool) -> None:
    read = read_response(then_silent(raw))
    assert (read.body, read.reusable) == (body, reusable)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"<html><body>Service Unavailable</body></html>\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + LENGTH,
        answer("no colon", "Content-Length: 0"),
        answer(": no name", "Content-Length: 0"),
        answer("Content-Length : 0"),
        answer(" Content-Length: 0"),
        answer("X-Long: a", " folded", "Content-Length: 0"),
        answer("Bad(name): 1", "Content-Length: 0"),
        answer("X: a\0b", "Content-Length: 0"),
        answer("X: a\nContent-Length: 0"),
        answer("X: a\rb", "Content-Length: 0"),
        *(
            answer(f"Content-Length: {length}", body=b"hello")
            for length in ("", "-5", "+5", "5.0", "0x5", "5 5", "5,5", "five", "\xb2", "5;a", "1_0", "9" * 5_000)
        ),
        answer("Content-Length: 5", "Content-Length: 5", body=b"hello"),
        answer("Content-Length: 5", "content-length: 6", body=b"hello!"),
        *(
            answer(f"Transfer-Encoding: {coding}", body=b"1\r\nx\r\n0\r\n\r\n")
            for coding in ("gzip", "gzip, chunked", "chunked, chunked", "identity", "", "xchunked")
        ),
        answer("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        *(
            answer("Transfer-Encoding: chunked", body=body)
            for body in (
                b"\r\nx\r\n0\r\n\r\n",
                b"g\r\nx\r\n0\r\n\r\n",
                b"-1\r\nx\r\n0\r\n\r\n",
                b"+1\r\nx\r\n0\r\n\r\n",
                b"0x1\r\nx\r\n0\r\n\r\n",
                b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
                b"1 1\r\nx\r\n0\r\n\r\n",
                b"000000001\r\nx\r\n0\r\n\r\n",
                b"1\r\nxy\r\n0\r\n\r\n",
                b"2\r\nx\r\n0\r\n\r\n",
                b"1\nx\n0\n\n",
                b"1\r\nx0\r\n\r\n",
                b"1\r\nx??0\r\n\r\n",
                b"ffffffff\r\nx\r\n0\r\n\r\n",
                b"<html>no chunks</html>\r\n\r\n",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_no_response_is_refused(raw: bytes) -> None:
    with pytest.raises(BadResponse):
        read_response(then_closed(raw))


def test_a_head_and_a_body_just_below_a_megabyte_are_read() -> None:
    length = MOST_BYTES - 100
    raw = answer(f"Content-Length: {length}", body=b"x" * length)
    assert len(read_response(then_silent(raw, range(0, len(raw), 4_096))).body) == length
    raw = answer(f"X: {'y' * length}", "Content-Length: 0")
    assert len(read_response(then_silent(raw, range(0, len(raw), 4_096))).headers["x"]) == length


START = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (START, b"X: y\r\n" * 4_096),
        (START + b"X: ", b"y" * 65_536),
        (b"H", b"x" * 65_536),
        (START + b"\r\n", b"x" * 65_536),
        (START + b"Content-Length: %d\r\n\r\n" % (MOST_BYTES + 1), b"x" * 65_536),
        (START + b"Content-Length: 9999999\r\n\r\n", b"x" * 65_536),
        (START + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n%s\r\n" % (b"x" * 0x1000)),
        (START + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", b"x" * 65_536),
        (START + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65_536),
        (START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 4_096),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_024),
    ],
)
def test_what_has_no_end_is_refused_after_a_megabyte(first: bytes, again: bytes) -> None:
    connection = Endless(first, again)
    with pytest.raises(BadResponse, match="more than 1,048,576 bytes"):
        read_response(connection)
    assert connection.received <= MOST_BYTES + len(first) + len(again)


MUTATIONS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4)


@settings(thorough, max_examples=300)
@given(written().map(lambda response: response.raw) | st.binary(max_size=40), MUTATIONS, CUTS)
@example(LENGTH, [(0, 0, b"")], [])
def test_whatever_comes_is_a_response_or_is_refused(
    raw: bytes, mutations: Sequence[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    for at, gone, put in mutations:
        raw = raw[:at] + put + raw[at + gone :]
    whole, in_pieces = (_outcome(then_closed(raw, places)) for places in ((), cuts))
    assert whole == in_pieces


def _outcome(receive: Callable[[], bytes]) -> tuple[int, bytes] | str:
    try:
        response = read_response(receive)
    except BadResponse as refused:
        return str(refused)
    return response.status, response.body


def test_what_receiving_raises_comes_through() -> None:
    def broken() -> bytes:
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError, match="reset"):
        read_response(broken)
