"""Faults of frames, deliveries, $disconnect and sockets, as a client of a running server meets them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Opcode
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from localaws.faults import Hit
from tests.faults import ask, hits, inject, lift
from tests.localaws.faulty import faulty
from tests.localaws.raw import PING, TEXT, Raw, frame
from tests.localaws.tiny import Tiny, until

WAIT = 20
"""Seconds until a receive is given up."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with faulty(tmp_path_factory.mktemp("tiny")) as running:
        yield running


@pytest.fixture(autouse=True)
def lifted(tiny: Tiny) -> Iterator[None]:
    """No test leaves faults to the next."""
    yield
    lift(tiny.server)


def own_id(tiny: Tiny) -> str:
    return str(tiny.event("CONNECT")["requestContext"]["connectionId"])


def drain(client: Connection, last: str = "last") -> list[str]:
    """What the client has got before `last`."""
    texts: list[str] = []
    while (text := str(client.recv(timeout=WAIT))) != last:
        texts.append(text)
    return texts


def seen_bodies(tiny: Tiny, connection_id: str) -> list[str]:
    contexts = [(event.get("body"), event["requestContext"]) for event in tiny.seen()]
    return [body for body, context in contexts if body and context["connectionId"] == connection_id]


def post(tiny: Tiny, connection_id: str, *texts: str) -> list[str]:
    """Post each text; what each is answered: "200" or the error's code."""
    management, answers = tiny.management(), []
    for text in texts:
        try:
            management.post_to_connection(ConnectionId=connection_id, Data=text.encode())
            answers.append("200")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            answers.append(f"{status} {error.response['Error']['Code']}")
    return answers


def found(hit: Hit) -> tuple[Any, ...]:
    return hit.rule, hit.at, hit.do, hit.connection, hit.detail


def test_a_frame_that_is_delayed_is_overtaken(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "frame", "do": "delay", "ms": "2000", "match": "slow"})
    with connect(tiny.url) as client:
        client.send("slow")
        client.send("quick")
        assert [client.recv(timeout=WAIT), client.recv(timeout=WAIT)] == ["quick", "slow"]
        assert [found(hit) for hit in hits(tiny.server, after)] == [(0, "frame", "delay", own_id(tiny), "slow")]


def test_a_frame_that_fails_runs_no_function_and_is_answered_as_api_gateway_answers(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "frame", "do": "fail", "match": "bad"})
    with connect(tiny.url) as client:
        client.send("a bad one")
        told = json.loads(client.recv(timeout=WAIT))
        assert (told["message"], told["connectionId"]) == ("Internal server error", own_id(tiny))
        assert set(told) == {"message", "connectionId", "requestId"}
        client.send("last")
        assert drain(client) == []
        assert seen_bodies(tiny, own_id(tiny)) == ["last"]
        assert [found(hit) for hit in hits(tiny.server, after)] == [(0, "frame", "fail", own_id(tiny), "a bad one")]


@pytest.mark.parametrize(
    ("do", "answer", "received"),
    [
        ("drop", "200", []),
        ("double", "200", ["it", "it"]),
        ("throttle", "429 LimitExceededException", []),
        ("fail", "500 InternalServerErrorException", []),
        ("forget", "500 InternalServerErrorException", ["it"]),
    ],
)
def test_a_delivery_is_answered_and_arrives_as_its_fault_says(
    tiny: Tiny, do: str, answer: str, received: list[str]
) -> None:
    after = inject(tiny.server, {"at": "delivery", "do": do, "match": "it"})
    with connect(tiny.url) as client:
        assert post(tiny, own_id(tiny), "it", "last") == [answer, "200"]
        assert drain(client) == received
        assert [found(hit) for hit in hits(tiny.server, after)] == [(0, "delivery", do, own_id(tiny), "it")]


def test_a_delivery_that_is_delayed_is_answered_at_once_and_overtaken(tiny: Tiny) -> None:
    inject(tiny.server, {"at": "delivery", "do": "delay", "ms": "1500-2000", "match": "slow"})
    with connect(tiny.url) as client:
        assert post(tiny, own_id(tiny), "slow", "quick") == ["200", "200"]
        assert [client.recv(timeout=WAIT), client.recv(timeout=WAIT)] == ["quick", "slow"]


def test_a_delay_and_a_double_and_a_forget_are_three_rules_for_one_delivery(tiny: Tiny) -> None:
    after = inject(
        tiny.server,
        *({"at": "delivery", "match": "it", **rule} for rule in ({"do": "delay", "ms": "50"}, {"do": "double"})),
        {"at": "delivery", "match": "it", "do": "forget"},
        {"at": "delivery", "match": "it", "do": "drop"},
    )
    with connect(tiny.url) as client:
        assert post(tiny, own_id(tiny), "it") == ["500 InternalServerErrorException"]
        assert [client.recv(timeout=WAIT), client.recv(timeout=WAIT)] == ["it", "it"]
        assert [hit.do for hit in hits(tiny.server, after)] == ["delay", "double", "forget"]


def test_a_delivery_whose_client_has_gone_meanwhile_is_nobodys_error(tiny: Tiny) -> None:
    inject(tiny.server, {"at": "delivery", "do": "delay", "ms": "300"})
    with connect(tiny.url):
        gone = own_id(tiny)
        assert post(tiny, gone, "late") == ["200"]
    tiny.event("DISCONNECT", gone)
    with connect(tiny.url) as client:
        client.send("last")  # its echo comes after what is due before
        assert drain(client) == []
    assert "Traceback" not in tiny.server.log()


def test_a_post_that_would_fail_anyway_is_not_struck(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "delivery", "do": "drop"})
    assert post(tiny, "AAAAAAAAAAAAAAA=", "it") == ["410 GoneException"]
    with connect(tiny.url):
        assert post(tiny, own_id(tiny), "x" * 131_073) == ["413 PayloadTooLargeException"]
    assert hits(tiny.server, after) == []


def test_a_disconnect_that_is_lost_invokes_nothing_and_the_next_one_comes(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "disconnect", "do": "lose", "times": 1})
    with connect(tiny.url):
        lost = own_id(tiny)
    (hit,) = until(lambda: hits(tiny.server, after) or None, "a lost $disconnect")
    assert found(hit) == (0, "disconnect", "lose", lost, "")
    assert post(tiny, lost, "it") == ["410 GoneException"]
    with connect(tiny.url):
        heard = own_id(tiny)
    tiny.event("DISCONNECT", heard)
    assert [each for each in tiny.seen() if each["requestContext"]["connectionId"] == lost][1:] == []


def test_a_frozen_socket_stays_open_fills_until_429_and_goes_on_when_it_is_thawed(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "socket", "do": "freeze"})
    with connect(tiny.url, max_queue=None, ping_interval=None) as client:
        connection_id = own_id(tiny)
        (hit,) = until(lambda: hits(tiny.server, after) or None, "a frozen socket")
        assert found(hit) == (0, "socket", "freeze", connection_id, "")
        client.send("frozen in")
        answers = post(tiny, connection_id, *[f"{number:0131000}" for number in range(9)])
        assert answers == ["200"] * 8 + ["429 LimitExceededException"]
        with pytest.raises(TimeoutError):
            client.recv(timeout=0)
        assert seen_bodies(tiny, connection_id) == []
        lift(tiny.server)
        assert [text[-1] for text in drain(client, "frozen in")] == list("01234567")


def test_nothing_that_came_with_the_handshake_is_read_from_a_frozen_socket(tiny: Tiny) -> None:
    freeze = {"at": "socket", "do": "freeze", "times": 1}
    inject(tiny.server, freeze)
    early = frame(PING, b"early") + b"".join(frame(TEXT, f"{number:032768}".encode()) for number in range(5))
    pings = frame(PING, b"x" * 125) * 3_000
    with Raw(tiny.server.port, early=early + pings) as client:
        connection_id = own_id(tiny)
        with connect(tiny.url) as other:
            other.send("meanwhile")
            assert other.recv(timeout=WAIT) == "meanwhile"
        assert seen_bodies(tiny, connection_id) == []
        client.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(150):
                client.send(pings)
    inject(tiny.server, freeze)
    with Raw(tiny.server.port, early=early) as client:
        lift(tiny.server)
        pong = client.frame()
        assert pong is not None
        assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"early")
        assert sorted(client.text()[-1] for _ in range(5)) == list("01234")


def test_of_a_full_buffer_no_fault_is_entered_and_what_was_answered_comes(tiny: Tiny) -> None:
    delay = {"at": "delivery", "do": "delay", "ms": "1", "match": "late"}
    after = inject(tiny.server, {"at": "socket", "do": "freeze"}, delay, {"at": "delivery", "do": "double"})
    with connect(tiny.url, max_queue=None, ping_interval=None) as client:
        connection_id = own_id(tiny)
        until(lambda: hits(tiny.server, after) or None, "a frozen socket")
        big = [f"{number:0131000}" for number in range(5)]
        assert post(tiny, connection_id, "late", *big) == ["200"] * 5 + ["429 LimitExceededException"]
        assert [hit.do for hit in hits(tiny.server, after)] == ["freeze", "delay", *["double"] * 5]
        lift(tiny.server)
        client.send("last")
        assert sorted(text[-4:] for text in drain(client)) == sorted(["late"] * 2 + [f"000{n}" for n in range(4)] * 2)


def test_of_two_freezes_the_longer_counts(tiny: Tiny) -> None:
    inject(tiny.server, {"at": "socket", "do": "freeze"}, {"at": "socket", "do": "freeze", "ms": "1"})
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        client.send("hello")
        with connect(tiny.url) as other:
            assert ask(tiny.server, "PUT", "/_faults", "{}")[0] == 200
        with connect(tiny.url) as other:
            other.send("meanwhile")
            assert other.recv(timeout=WAIT) == "meanwhile"
        assert seen_bodies(tiny, connection_id) == []
        lift(tiny.server)
        assert client.recv(timeout=WAIT) == "hello"


def test_a_socket_thaws_by_itself_after_its_time(tiny: Tiny) -> None:
    inject(tiny.server, {"at": "socket", "do": "freeze", "ms": "1500", "times": 1})
    begun = time.monotonic()
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        client.send("hello")
        with connect(tiny.url) as other:
            other.send("meanwhile")
            assert other.recv(timeout=WAIT) == "meanwhile"
        seen = seen_bodies(tiny, connection_id)
        assert seen == [] or time.monotonic() - begun > 1.5
        assert client.recv(timeout=WAIT) == "hello"


def test_a_frozen_socket_can_be_closed_all_the_same(tiny: Tiny) -> None:
    inject(tiny.server, {"at": "socket", "do": "freeze"})
    with connect(tiny.url, close_timeout=WAIT) as client:
        connection_id = own_id(tiny)
        tiny.management().delete_connection(ConnectionId=connection_id)
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=WAIT)
    assert tiny.event("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1000


def test_a_socket_is_cut_without_a_close_frame(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "socket", "do": "cut", "ms": "100-200"})
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(timeout=WAIT)
        assert closed.value.rcvd is None
    assert tiny.event("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1006
    assert [found(hit) for hit in hits(tiny.server, after)] == [(0, "socket", "cut", connection_id, "")]


def test_a_cut_is_entered_when_it_comes_which_a_client_that_has_left_or_another_plan_prevents(tiny: Tiny) -> None:
    cut = {"at": "socket", "do": "cut", "ms": "1500", "times": 1}
    after = inject(tiny.server, cut)
    with connect(tiny.url):
        left = own_id(tiny)
    tiny.event("DISCONNECT", left)
    with connect(tiny.url) as client:
        stayed = own_id(tiny)
        assert hits(tiny.server, after) == []
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=WAIT)
    assert [hit.connection for hit in hits(tiny.server, after)] == [stayed]
    after = inject(tiny.server, cut)
    with connect(tiny.url) as client:
        lift(tiny.server)
        with pytest.raises(TimeoutError):
            client.recv(timeout=3)
    assert hits(tiny.server, after) == []


def test_a_socket_may_be_frozen_first_and_cut_then(tiny: Tiny) -> None:
    after = inject(tiny.server, {"at": "socket", "do": "freeze"}, {"at": "socket", "do": "cut", "ms": "100"})
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=WAIT)
    assert tiny.event("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1006
    assert [hit.do for hit in hits(tiny.server, after)] == ["freeze", "cut"]


def test_the_same_seed_and_traffic_give_the_same_hits(tiny: Tiny) -> None:
    rules = [
        {"at": "delivery", "do": "drop", "share": 0.3},
        {"at": "delivery", "do": "throttle", "share": 0.3},
        {"at": "delivery", "do": "double", "share": 0.3},
    ]
    runs = []
    for seed in (1, 1, 2):
        after = inject(tiny.server, *rules, seed=seed)
        with connect(tiny.url, max_queue=None):
            post(tiny, own_id(tiny), *map(str, range(60)))
        runs.append([(hit.rule, hit.do, hit.detail) for hit in hits(tiny.server, after)])
    assert runs[0] == runs[1] != runs[2]
    assert {do for _, do, _ in runs[0]} == {"drop", "throttle", "double"}


def test_a_server_full_of_frozen_sockets_stops_as_any_other(
    tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = '{"rules": [{"at": "socket", "do": "freeze"}]}'
    with faulty(tmp_path_factory.mktemp("other"), plan=plan) as other:
        client = connect(other.url, ping_interval=None)
        connection_id = own_id(other)
        until(lambda: hits(other.server) or None, "a frozen socket")
    with pytest.raises(ConnectionClosedError):
        client.recv(timeout=WAIT)
    assert other.event("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1001
