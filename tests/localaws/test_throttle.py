"""Token buckets, with a clock that moves only when told; and what is throttled by them, at a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from localaws.throttle import TokenBucket
from tests.localaws import signed
from tests.localaws.tiny import Tiny, last, served, until


class Clock:
    """It moves only when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def taken(bucket: TokenBucket, times: int) -> int:
    """How many of so many requests at once are let through."""
    return sum(bucket.take() for _ in range(times))


def test_a_burst_goes_through_and_then_as_many_as_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)
    assert taken(bucket, 100) == 5
    for seconds, through in ((0.1, 1), (0.3, 3), (0.05, 0), (0.05, 1), (60.0, 5)):
        clock.now += seconds + 1e-9
        assert taken(bucket, 100) == through


def test_in_the_long_run_exactly_the_rate_goes_through() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)
    taken(bucket, 100)
    through = 0
    for _ in range(400):
        clock.now += 0.25  # which a float has exactly
        through += taken(bucket, 100)
    assert through == 1_000


def test_what_is_refused_takes_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(1, 1, clock)
    assert taken(bucket, 1_000) == 1
    clock.now += 1
    assert taken(bucket, 1_000) == 1


def test_a_rate_of_0_lets_everything_through() -> None:
    assert taken(TokenBucket(0, 1, Clock()), 10_000) == 10_000


@settings(deadline=None)
@given(
    rate=st.integers(1, 20_000),
    burst=st.integers(1, 20_000),
    waits=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), max_size=30),
)
def test_never_more_go_through_than_a_burst_and_the_rate(rate: int, burst: int, waits: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    through = asked = 0
    for wait, times in waits:
        clock.now += wait
        got = taken(bucket, times)
        through, asked = through + got, asked + times
        assert through <= burst + rate * (clock.now - 1_000) + 1e-3
    if asked <= burst:
        assert through == asked


# At a server

HANDLERS = """
@app.route("/hello")
def hello():
    return "hello"

@app.lambda_function(name="echo")
def echo(event, context):
    return event

@app.on_ws_connect()
def websocket_connect(event):
    record(event)

@app.on_ws_message()
def websocket_message(event):
    record(event)

@app.on_ws_disconnect()
def websocket_disconnect(event):
    record(event)
"""

BURST = 40
QUOTA = {"LOCALAWS_REQUEST_RATE": "1", "LOCALAWS_REQUEST_BURST": str(BURST)}
"""A request a second: a test that is over before BURST seconds are cannot have it fill again."""

UNKNOWN = "/api/@connections/AAAAAAAAAAAAAAA="
ECHO = "/2015-03-31/functions/tiny-dev-echo/invocations"


def bodies(tiny: Tiny) -> list[str]:
    """The frames that have reached the function."""
    return [event["body"] for event in tiny.seen() if "body" in event]


def all_of(texts: list[str], expected: set[str]) -> list[str] | None:
    """The texts, once they hold all that is expected."""
    return texts if expected <= set(texts) else None


def handshake(tiny: Tiny) -> int:
    """The status of one."""
    try:
        with connect(tiny.url):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Tiny]:
    with served(tmp_path, HANDLERS, env=QUOTA) as running:
        yield running


def test_a_frame_over_the_quota_is_answered_by_the_gateway_and_reaches_no_function(tiny: Tiny) -> None:
    with connect(tiny.url, max_queue=None) as client:
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        for number in range(3 * BURST):
            client.send(str(number))
        notice = json.loads(client.recv(timeout=20))
        assert list(notice) == ["message", "connectionId", "requestId"]
        assert (notice["message"], notice["connectionId"]) == ("Too Many Requests", connection_id)
        refused = 1 + len([client.recv(timeout=20) for _ in range(BURST)])
    # The first ones are handled: the handshake has taken one of the burst, and what is refused takes nothing.
    first = {str(number) for number in range(BURST - 1)}
    handled = until(lambda: all_of(bodies(tiny), first), "the frames of the burst", tiny.server.log)
    assert len(handled) <= 3 * BURST - refused


def test_frames_posts_handshakes_and_http_share_one_quota(tiny: Tiny) -> None:
    port, share, began = tiny.server.port, BURST // 5, time.monotonic()
    for _ in range(share - 1):
        with connect(tiny.url):
            pass
    with connect(tiny.url) as client:
        for _ in range(share):
            client.send("a frame")
        until(lambda: len(bodies(tiny)) == share or None, "the frames", tiny.server.log)
        for _ in range(share):
            assert signed.ask(port, "POST", UNKNOWN, b"x").status == 410
            assert signed.send(port, "GET", "/hello").status == 200
        answers = [signed.ask(port, "POST", UNKNOWN, b"x") for _ in range(BURST)]
        left = sum(answer.status == 410 for answer in answers)
        assert share <= left <= share + (time.monotonic() - began)
        [refused] = {answer for answer in answers if answer.status != 410}
        assert (refused.status, refused.error) == (429, "LimitExceededException")
        assert json.loads(refused.body) == {"message": "Too Many Requests"}
        # Now and then another token has come, but not as often as these ask.
        pages = {signed.send(port, "GET", "/hello") for _ in range(BURST)}
        assert {page.status for page in pages} <= {200, 429}
        assert [json.loads(page.body) for page in pages if page.status == 429] == [{"message": "Too Many Requests"}]
        assert 429 in {handshake(tiny) for _ in range(BURST)}


def test_what_is_not_signed_and_what_lambdas_api_invokes_take_nothing_of_the_quota(tiny: Tiny) -> None:
    port = tiny.server.port
    for _ in range(BURST):
        assert signed.send(port, "POST", UNKNOWN, b"x").status == 403
        assert signed.ask(port, "POST", ECHO, b"1", "lambda").status == 200
    assert signed.ask(port, "POST", UNKNOWN, b"x").status == 410


def test_handshakes_over_the_rate_of_new_connections_are_refused_with_429_and_reach_no_function(
    tmp_path: Path,
) -> None:
    with served(tmp_path, HANDLERS, env={"LOCALAWS_CONNECT_RATE": "1"}) as tiny:
        statuses = [handshake(tiny) for _ in range(20)]
        assert statuses[0] == 101
        assert set(statuses) == {101, 429}
        assert last(tiny.seen(), "CONNECT", None) is not None
        assert [event["requestContext"]["eventType"] for event in tiny.seen()].count("CONNECT") == statuses.count(101)


def test_without_quotas_everybody_is_let_in(tmp_path: Path) -> None:
    env = {"LOCALAWS_REQUEST_RATE": "0", "LOCALAWS_REQUEST_BURST": "1", "LOCALAWS_CONNECT_RATE": "0"}
    with served(tmp_path, HANDLERS, env=env) as tiny:
        for _ in range(5):
            with connect(tiny.url) as client:
                client.send("a frame")
            assert signed.ask(tiny.server.port, "POST", UNKNOWN, b"x").status == 410
