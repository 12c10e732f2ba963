"""When a token ends, and what a new one changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.errors import Unauthenticated
from chalicelib.events import Connect, Disconnect
from chalicelib.model import Address, ConnectionId
from chalicelib.table import EXPIRY_SECONDS, TOMBSTONE_SECONDS, Table

from .fakes import NOW
from .jwks import NOW_S, OTHERS, signed
from .tokens import HS256, LIFE_S, USER, token_for
from .world import World, error_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

ME = ConnectionId("a")
SHORT_S, LONG_S = 3_600, 6_000
"""The store deletes what has expired by the real clock, which goes on while tests run."""

HASHED = "x" * 300
ALL = {"*": ["*"]}


@pytest.fixture(name="world")
def a_world(ministack: DynamoDBClient) -> World:
    """`a` has a token for an hour and has joined `news`; `b` has one for as long as it takes."""
    world = World(ministack, **HS256, home_channel=None)
    world.enter(ME, ALL, expires_in=SHORT_S)
    world.enter("b", ALL, user="grace")
    join(world, "news")
    return world


def join(world: World, channel: str, name: str = ME) -> None:
    world.send(name, {"action": "joinchannel", "channel": channel})
    [answer] = world.received(name)
    assert "connectionId" in answer


def leave(world: World, channel: str) -> Any:
    world.send(ME, {"action": "leavechannel", "channel": channel})
    [answer] = world.received(ME)
    return answer


def authenticate(world: World, token: str, **more: Any) -> Any:
    world.send(ME, {"action": "authenticate", "token": token, **more})
    [answer] = world.received(ME)
    return answer


def renew(world: World, capability: Mapping[str, list[str]] | None, expires_in: int = LONG_S) -> None:
    answer = authenticate(world, token_for(USER, capability, expires_in))
    assert answer == {"action": "authenticate", "expiresAt": NOW_S + expires_in}


def pass_seconds(world: World, seconds: int) -> None:
    world.clock.now += seconds * 1_000


def expiries(world: World, name: str = ME) -> dict[str, int]:
    """When each item of that connection ends, in seconds after NOW."""
    mine = [item for item in world.items() if item["connection_id"]["S"] == name]
    return {item["channel"]["S"]: int(item["expires_at"]["N"]) - NOW_S for item in mine}


# --- the end of a token


def test_items_end_with_the_token_or_with_the_connection_whichever_is_first(world: World) -> None:
    assert expiries(world) == {"@connection#a": SHORT_S, "news": SHORT_S}
    join(world, "news", "b")
    assert expiries(world, "b") == {"@connection#b": LIFE_S, "news": LIFE_S}
    world.enter("c", ALL, expires_in=1_000_000)
    join(world, "news", "c")
    assert expiries(world, "c") == {"@connection#c": EXPIRY_SECONDS, "news": EXPIRY_SECONDS}


def test_a_token_that_has_ended_lets_nobody_in(world: World) -> None:
    before = world.items()
    with pytest.raises(Unauthenticated, match="it has expired"):
        world.enter("late", ALL, expires_in=0)
    assert world.items() == before


def test_receiving_ends_with_the_token_though_the_store_keeps_the_membership(world: World) -> None:
    send = {"action": "sendmessage", "channel": "news", "message": "hello"}
    pass_seconds(world, SHORT_S - 1)
    world.send("b", send)
    assert world.received(ME) == ["hello"]
    pass_seconds(world, 1)
    world.send("b", send)
    assert world.received(ME) == []
    assert expiries(world)["news"] == SHORT_S


def test_leaving_needs_no_token_that_still_holds(world: World) -> None:
    pass_seconds(world, SHORT_S)
    assert leave(world, "news") == {"channel": "news", "connectionId": ME, "left": True}
    assert set(expiries(world)) == {"@connection#a"}


# --- a new one


def test_a_new_token_holds_without_reconnecting_and_its_answer_says_until_when(world: World) -> None:
    answer = authenticate(world, token_for(USER, ALL, LONG_S), id="7")
    assert answer == {"action": "authenticate", "expiresAt": NOW_S + LONG_S, "id": "7"}
    assert expiries(world) == {"@connection#a": LONG_S, "news": LONG_S}
    pass_seconds(world, SHORT_S)
    world.send("b", {"action": "sendmessage", "channel": "news", "message": "hello"})
    assert world.received(ME) == ["hello"]
    join(world, "sport")
    assert expiries(world)["sport"] == LONG_S


def test_after_the_end_of_the_old_token_the_new_one_gives_all_back(world: World) -> None:
    pass_seconds(world, SHORT_S)
    world.send(ME, {"action": "joinchannel", "channel": "sport"})
    assert error_code(world.received(ME)) == "token_expired"
    renew(world, ALL)
    join(world, "sport")
    world.send("b", {"action": "sendmessage", "channel": "news", "message": "hello"})
    assert world.received(ME) == ["hello"]


def test_a_new_token_may_be_shorter_than_the_old_one(world: World) -> None:
    renew(world, ALL, expires_in=SHORT_S // 2)
    assert expiries(world) == {"@connection#a": SHORT_S // 2, "news": SHORT_S // 2}
    pass_seconds(world, SHORT_S // 2)
    world.send(ME, {"action": "sendmessage", "channel": "news", "message": "hello"})
    assert error_code(world.received(ME)) == "token_expired"


def test_channels_that_the_new_token_does_not_allow_are_left_at_once_and_the_others_go_on(world: World) -> None:
    for channel in ("sport", "orders:1"):
        join(world, channel)
        join(world, channel, "b")
    renew(world, {"orders:*": ["subscribe"], "sport": ["publish"]})
    assert expiries(world) == {"@connection#a": LONG_S, "orders:1": LONG_S}
    assert set(expiries(world, "b")) == {"@connection#b", "orders:1", "sport"}
    world.send(ME, {"action": "joinchannel", "channel": "news"})
    world.send(ME, {"action": "sendmessage", "channel": "sport", "message": "hello"})
    [refused] = world.received(ME)
    assert refused["code"] == "forbidden"
    assert world.received("b") == ["hello"]


def test_a_new_token_may_give_more_rights(world: World) -> None:
    renew(world, {"news": ["subscribe"]})
    renew(world, ALL)
    join(world, "sport")


def test_a_new_token_that_does_not_say_what_it_may_do_may_do_what_is_configured(world: World) -> None:
    renew(world, {"news": ["subscribe"]})
    renew(world, None)
    assert "capability" not in world.items()[0]
    join(world, "sport")


def test_of_a_channel_stored_by_its_hash_the_membership_goes_on_with_the_same_rights_alone(world: World) -> None:
    for channel in (HASHED, "@x", ""):
        join(world, channel)
    renew(world, ALL)
    assert list(expiries(world).values()) == [LONG_S] * 5
    renew(world, {**ALL, "news": ["subscribe"]})
    assert set(expiries(world)) == {"@connection#a", "news"}


def test_the_home_channel_is_left_too_where_the_new_token_does_not_allow_it(world: World) -> None:
    world.enter("c", ALL, room="lobby")
    world.send("c", {"action": "authenticate", "token": token_for(USER, {"news": ["*"]})})
    assert world.members("lobby") == set()


def test_many_memberships_are_all_renewed_or_left(world: World) -> None:
    topics = [f"{kind}:{number}" for number in range(60) for kind in ("kept", "lost")]
    world.send(ME, {"type": "subscribe", "topics": topics})
    renew(world, {"kept:*": ["subscribe"]})
    assert expiries(world) == {"@connection#a": LONG_S, **{f"kept:{number}": LONG_S for number in range(60)}}


def test_a_leave_that_overtook_its_join_is_no_membership_after_a_renewal(world: World) -> None:
    pass_seconds(world, SHORT_S // 2)
    leave(world, "sport")
    renew(world, ALL)
    assert world.members("sport") == set()
    assert expiries(world)["sport"] == SHORT_S // 2 + TOMBSTONE_SECONDS


def test_what_others_have_is_left_alone(world: World) -> None:
    world.enter("another of mine", ALL, expires_in=SHORT_S)
    join(world, "news", "another of mine")
    before = [item for item in world.items() if item["connection_id"]["S"] != ME]
    renew(world, {})
    assert [item for item in world.items() if item["connection_id"]["S"] != ME] == before


# --- tokens that change nothing


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (token_for("grace", ALL, LONG_S), "it is another user's; connect again with it"),
        (token_for("A" + USER[1:], ALL, LONG_S), "it is another user's; connect again with it"),
        (token_for(USER, ALL, 0), "it has expired"),
        (token_for(USER, ALL, LONG_S, nbf=NOW_S + 60), "it is not valid yet (nbf, iat)"),
        (token_for(USER, {"news": "subscribe"}, LONG_S), "its capability is not an object"),  # type: ignore[dict-item]
        (signed("HS256", {"sub": USER, "exp": NOW_S + 9}, OTHERS["HS256"]), "no key of this server fits its signature"),
        (token_for(USER, ALL, LONG_S)[:-3], "no key of this server fits its signature"),
        ("", "it is not a signed JSON Web Token"),
        ("canary", "it is not a signed JSON Web Token"),
        ("x" * 100_000, "it is longer than 8,192 bytes"),
    ],
)
def test_a_token_that_cannot_be_taken_leaves_everything_as_it_was(world: World, token: str, reason: str) -> None:
    before = world.items()
    answer = authenticate(world, token)
    assert answer["code"] == "invalid_token"
    assert answer["message"].startswith(f"The token cannot be taken: {reason}")
    assert "canary" not in json.dumps(answer)
    assert world.items() == before
    join(world, "sport")


@pytest.mark.parametrize(
    ("fields", "code"), [({}, "missing_field"), ({"token": 5}, "wrong_type"), ({"token": None}, "wrong_type")]
)
def test_an_authenticate_without_a_token_is_told_what_is_missing(
    world: World, fields: dict[str, Any], code: str
) -> None:
    before = world.items()
    world.send(ME, {"action": "authenticate", **fields})
    assert error_code(world.received(ME)) == code
    assert world.items() == before


def test_a_connection_that_is_gone_must_connect_again(world: World) -> None:
    world.service.disconnect(Disconnect(ME, 1000, ""))
    before = world.items()
    assert authenticate(world, token_for(USER, ALL, LONG_S))["code"] == "token_expired"
    assert world.items() == before


def test_a_connection_that_goes_in_mid_renewal_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewing = Table.renew

    def too_late(table: Table, *arguments: Any) -> bool:
        table.disconnect(ME)
        return renewing(table, *arguments)

    monkeypatch.setattr(Table, "renew", too_late)
    assert authenticate(world, token_for(USER, ALL, LONG_S))["code"] == "token_expired"
    assert expiries(world) == {}


def test_a_connection_of_a_time_when_the_server_was_open_must_connect_again(world: World) -> None:
    world.table.connect(ConnectionId("old"), NOW, None)
    world.gateway.open.add("old")
    before = world.items()
    world.send("old", {"action": "authenticate", "token": token_for(USER, ALL)})
    assert error_code(world.received("old")) == "invalid_token"
    assert world.items() == before


def test_an_open_server_takes_no_token_and_says_so_with_null(ministack: DynamoDBClient) -> None:
    world = World(ministack)
    world.connect(ME)
    before = world.items()
    for token in (token_for(USER, {}), "canary"):
        assert authenticate(world, token, id="7") == {"action": "authenticate", "expiresAt": None, "id": "7"}
    assert world.items() == before


def test_whom_an_authorizer_let_in_must_connect_again(ministack: DynamoDBClient) -> None:
    world = World(ministack, authentication="authorizer")
    world.gateway.open.add(ME)
    world.service.connect(Connect(ME, NOW, {}, Address("a", "b"), authorizer={"principalId": USER, "exp": NOW_S + 60}))
    before = world.items()
    assert authenticate(world, token_for(USER, ALL))["code"] == "invalid_token"
    assert world.items() == before


def test_no_token_gets_into_the_table(world: World) -> None:
    token = token_for(USER, ALL, LONG_S)
    authenticate(world, token)
    stored = json.dumps(world.items())
    assert not any(part in stored for part in token.split("."))
