"""Rules of a deployment's own: whom they refuse, what they change, and what happens when they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import hooks, service
from chalicelib.actions import ACTIONS
from chalicelib.errors import ChannelsError, NotAllowed, TooLarge
from chalicelib.events import Connect
from chalicelib.fanout import Sending
from chalicelib.hooks import Connecting, Joining, Publishing, Refused
from chalicelib.model import ChannelName, ConnectionId, Message

from .fakes import ENDLESS, NOW
from .frames import CHANNEL, CUSTOM, HOME, NEEDY, Row, label
from .tokens import HS256
from .world import ADDRESS, World, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SENDER = ConnectionId("sender")
JOINS = tuple(row for row in NEEDY if row.operation == "subscribe")
PUBLISHES = tuple(row for row in NEEDY if row.operation == "publish")

Use = Callable[..., None]


@pytest.fixture(name="use")
def registered(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Puts functions into the registry's rows: use(on_join=[…])."""

    def use(**rows: list[Any]) -> None:
        for name, row in rows.items():
            monkeypatch.setattr(hooks, name.upper(), row)

    return use


@pytest.fixture(name="world")
def a_world(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(service, "ACTIONS", {**ACTIONS, **CUSTOM})
    return World(ministack, **HS256)


def members_only(_subject: object) -> None:
    raise Refused("Members only.")


def broken(_subject: object) -> None:
    raise RuntimeError("the cause")


def add_witnesses(world: World, channel: str) -> None:
    for name, dialect in (("bare", "text"), ("page", "ywebrtc")):
        world.gateway.open.add(name)
        world.table.join(ChannelName(channel), ConnectionId(name), dialect, NOW, NOW)


def sign_in(world: World) -> None:
    world.enter(SENDER, {"*": ["*"]}, room=HOME)


def test_no_hook_is_registered_unless_a_deployment_does() -> None:
    assert (hooks.ON_CONNECT, hooks.ON_JOIN, hooks.ON_PUBLISH) == ((), (), ())


# --- what they are asked


def test_hooks_are_asked_with_who_it_is_and_what_it_wants(world: World, use: Use) -> None:
    asked: list[object] = []

    def note(subject: Any) -> Any:
        asked.append(subject)
        return getattr(subject, "body", None)

    use(on_connect=[note], on_join=[note], on_publish=[note])
    world.enter(SENDER, {"*": ["*"]}, room=HOME, lang="en")
    world.send(SENDER, {"action": "joinchannel", "channel": CHANNEL})
    world.send(SENDER, {"type": "message", "data": "hello"})
    assert asked == [
        Connecting(SENDER, "ada", ChannelName(HOME), {"room": HOME, "lang": "en"}, ""),
        Joining(SENDER, "ada", ChannelName(HOME)),
        Joining(SENDER, "ada", ChannelName(CHANNEL)),
        Publishing(SENDER, "ada", ChannelName(HOME), "hello", "everyone"),
    ]


def test_in_an_open_server_nobody_has_a_name(ministack: DynamoDBClient, use: Use) -> None:
    asked: list[Any] = []
    use(on_connect=[asked.append], on_join=[asked.append])
    world = World(ministack, home_channel=None)
    world.connect(SENDER)
    world.send(SENDER, {"action": "joinchannel", "channel": CHANNEL})
    assert [subject.principal for subject in asked] == [None, None]
    assert asked[0].home is None


def test_the_token_of_a_url_is_not_among_its_parameters(ministack: DynamoDBClient, use: Use) -> None:
    asked: list[Any] = []
    use(on_connect=[asked.append])
    World(ministack).service.connect(Connect(SENDER, NOW, {"room": HOME}, ADDRESS, tokens=["canary"]))
    assert "canary" not in repr(asked)


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_nobody_without_the_right_is_asked_about(world: World, use: Use, row: Row) -> None:
    asked: list[Any] = []
    world.enter(SENDER, {HOME: ["subscribe"]}, room=HOME)
    use(on_join=[asked.append], on_publish=[asked.append])
    world.send(SENDER, row.text)
    assert error_code(world.received(SENDER)) == "forbidden"
    assert asked == []


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_every_frame_that_joins_or_publishes_is_asked_about_once(world: World, use: Use, row: Row) -> None:
    asked: list[Any] = []
    sign_in(world)

    def note(subject: Any) -> Any:
        asked.append(subject)
        return getattr(subject, "body", None)

    use(on_join=[note], on_publish=[note])
    world.send(SENDER, row.text)
    [subject] = asked
    assert (type(subject), subject.channel) == (Joining if row.operation == "subscribe" else Publishing, row.channel)


def test_each_topic_of_a_subscribe_is_asked_about(world: World, use: Use) -> None:
    asked: list[Joining] = []
    sign_in(world)
    use(on_join=[asked.append])
    world.send(SENDER, {"type": "subscribe", "topics": ["1", "2", "1"]})
    assert [joining.channel for joining in asked] == ["1", "2"]


def test_what_a_backend_publishes_is_not_asked_about(world: World, use: Use) -> None:
    use(on_publish=[members_only])
    add_witnesses(world, CHANNEL)
    message = Message(ChannelName(CHANNEL), "hello", "pubsub", None, NOW)
    world.service.fanout.send(Sending("m1", message), ENDLESS)
    assert world.received("bare") == ["hello"]


# --- refusing


@pytest.mark.parametrize("row_of", ["on_connect", "on_join"])
@pytest.mark.parametrize(("hook", "reason"), [(members_only, "Members only."), (broken, "does not accept it")])
def test_who_is_refused_at_the_door_is_not_recorded(
    world: World, use: Use, row_of: str, hook: Callable[[object], None], reason: str
) -> None:
    use(**{row_of: [hook]})
    with pytest.raises(NotAllowed, match=reason) as raised:
        sign_in(world)
    assert "the cause" not in str(raised.value)
    assert raised.value.status == 403
    assert world.items() == []


def test_without_a_home_channel_no_join_is_asked_about_at_the_door(world: World, use: Use) -> None:
    use(on_join=[members_only])
    world.enter(SENDER, {"*": ["*"]}, room="")
    assert len(world.items()) == 1


@pytest.mark.parametrize("row", NEEDY, ids=label)
@pytest.mark.parametrize(
    ("hook", "message"), [(members_only, "Members only."), (broken, "This server does not accept it.")]
)
def test_what_is_refused_is_neither_written_nor_sent(
    world: World, use: Use, row: Row, hook: Callable[[object], None], message: str
) -> None:
    sign_in(world)
    add_witnesses(world, row.channel)
    before = world.items()
    use(on_join=[hook], on_publish=[hook])
    world.send(SENDER, row.text)
    assert world.received(SENDER) == [{"type": "error", "code": "refused", "message": message}]
    assert (world.items(), world.received("bare"), world.received("page")) == (before, [], [])


def test_one_refused_topic_keeps_a_subscribe_from_all_of_them_and_from_leaving_home(world: World, use: Use) -> None:
    def not_this(joining: Joining) -> None:
        if joining.channel == "3":
            raise Refused

    sign_in(world)
    before = world.items()
    use(on_join=[not_this])
    world.send(SENDER, {"type": "subscribe", "topics": ["1", "2", "3"]})
    assert error_code(world.received(SENDER)) == "refused"
    assert world.items() == before


def test_a_hook_may_refuse_with_any_error_of_a_clients(world: World, use: Use) -> None:
    def too_long(_publishing: Publishing) -> None:
        raise TooLarge("The text", 999, 280, "characters")

    sign_in(world)
    use(on_publish=[too_long])
    world.send(SENDER, {"type": "message", "data": "hello"})
    [answer] = world.received(SENDER)
    assert (answer["code"], answer["message"]) == ("too_large", "The text is 999 characters; the limit is 280.")


@pytest.mark.parametrize(
    "error", [ChannelsError("cause"), KeyError("cause"), AssertionError("cause"), OSError("cause")]
)
def test_any_other_exception_refuses_and_its_traceback_is_in_the_log_alone(
    world: World, use: Use, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def failing(_subject: object) -> None:
        raise error

    sign_in(world)
    use(on_publish=[failing])
    world.send(SENDER, {"type": "message", "data": "hello"})
    assert error_code(world.received(SENDER)) == "refused"
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "hook failing failed, which refuses"
    assert record.exc_info
    assert record.exc_info[1] is error


def test_a_refusal_is_one_line_of_the_log_whatever_it_says(
    world: World, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    def quoting(joining: Joining) -> None:
        raise Refused(f"not {joining.channel}")

    use(on_join=[quoting])
    with pytest.raises(NotAllowed) as raised:
        world.enter(SENDER, {"*": ["*"]}, room="a\nb\x1b[31m")
    world.enter(SENDER, {"*": ["*"]}, room="")
    world.send(SENDER, {"action": "joinchannel", "channel": "a\nb\x1b[31m"})
    assert world.received(SENDER)[0]["message"] == "not a\nb\x1b[31m"
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert lines == ["hook quoting refused cause='not a\\nb\\x1b[31m'"] * 2
    assert str(raised.value).isprintable()


class Rule:
    def __call__(self, subject: object) -> None:
        members_only(subject)


@pytest.mark.parametrize("hook", [partial(members_only), Rule()])
def test_a_hook_may_be_anything_that_can_be_called(world: World, use: Use, hook: Any) -> None:
    use(on_connect=[hook])
    with pytest.raises(NotAllowed, match="Members only"):
        sign_in(world)
    use(on_connect=[], on_publish=[hook])
    sign_in(world)
    world.send(SENDER, {"type": "message", "data": "hello"})
    assert error_code(world.received(SENDER)) == "refused"


# --- order and enriching


@pytest.mark.parametrize("row_of", ["on_connect", "on_join"])
def test_hooks_are_asked_in_the_order_of_their_row_until_one_refuses(world: World, use: Use, row_of: str) -> None:
    asked: list[str] = []
    first, last = (lambda _: asked.append("first")), (lambda _: asked.append("last"))
    use(**{row_of: [first, members_only, last]})
    with pytest.raises(NotAllowed):
        sign_in(world)
    assert asked == ["first"]


def test_what_one_returns_is_what_the_next_is_given_and_what_is_sent_in_the_end(world: World, use: Use) -> None:
    def shout(publishing: Publishing) -> str:
        return str(publishing.body).upper()

    def sign(publishing: Publishing) -> dict[str, Any]:
        return {"text": publishing.body, "by": publishing.principal}

    sign_in(world)
    use(on_publish=[shout, sign])
    world.send(SENDER, {"type": "message", "data": "hello"})
    assert world.received(SENDER) == [{"text": "HELLO", "by": "ada"}]


@pytest.mark.parametrize("row", PUBLISHES, ids=label)
def test_a_message_of_any_dialect_can_be_changed(world: World, use: Use, row: Row) -> None:
    sign_in(world)
    add_witnesses(world, row.channel)

    def check(publishing: Publishing) -> dict[str, Any]:
        return {**(publishing.body if isinstance(publishing.body, dict) else {}), "checked": True}

    use(on_publish=[check])
    world.send(SENDER, row.text)
    for name in ("bare", "page"):
        [received] = world.received(name)
        assert received.get("checked") or received["data"]["checked"]


@pytest.mark.parametrize("strange", [None, "text", 5, [1], True])
@pytest.mark.parametrize("row", [row for row in PUBLISHES if row.dialect in {"ywebrtc", "actions"}], ids=label)
def test_an_object_stays_an_object(
    world: World, use: Use, row: Row, strange: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sign_in(world)
    add_witnesses(world, row.channel)
    use(on_publish=[lambda _publishing: strange])
    world.send(SENDER, row.text)
    assert error_code(world.received(SENDER)) == "refused"
    assert (world.received("bare"), world.received("page")) == ([], [])
    assert "must return what is to be sent, an object in the place of one" in caplog.text


def test_a_hook_that_forgets_to_return_sends_nothing(world: World, use: Use) -> None:
    sign_in(world)
    add_witnesses(world, "news")
    use(on_publish=[lambda _publishing: None])
    world.send(SENDER, {"action": "sendmessage", "channel": "news", "message": "hi"})
    assert error_code(world.received(SENDER)) == "refused"
    assert world.received("bare") == []


@pytest.mark.parametrize(
    "strange", [object(), {1, 2}, b"bytes", float("nan"), {"x": object()}, {(1, 2): 3}, "x" * 200_000]
)
def test_what_is_not_json_or_too_large_is_sent_to_nobody(world: World, use: Use, strange: Any) -> None:
    sign_in(world)
    add_witnesses(world, HOME)
    use(on_publish=[lambda _publishing: strange])
    world.send(SENDER, {"type": "message", "data": "hello"})
    assert error_code(world.received(SENDER)) in {"internal", "too_large"}
    assert (world.received("bare"), world.received("page")) == ([], [])


def returns_false(_subject: object) -> bool:
    return False


async def waits(_subject: object) -> None:
    """A coroutine, which nobody would wait for."""


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("kind", ["on_connect", "on_join"])
@pytest.mark.parametrize("hook", [returns_false, waits])
def test_a_hook_that_returns_something_refuses(
    world: World, use: Use, kind: str, hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use(**{kind: [hook]})
    with pytest.raises(NotAllowed):
        sign_in(world)
    assert world.items() == []
    assert f"hook {hook.__name__} must return nothing, and raise to refuse" in caplog.text
