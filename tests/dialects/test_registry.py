from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.dialects import BUILT_IN_ACTIONS, DIALECTS, Command, Encoded, check_size, route
from chalicelib.dialects.frame import Dialect
from chalicelib.errors import ClientError, MissingField, TooDeep, TooLarge, UnknownAction, WrongType
from chalicelib.jsontext import compact
from chalicelib.model import JSON, ChannelName, ConnectionId, Message

from ..test_jsontext import any_text, json_values

ME = ConnectionId("IU3kkeN4IAMCJwA=")


def decode(text: str) -> list[Command]:
    frame, decoder = route(text)
    return list(decoder(frame, ME))


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("null", WrongType, "must be a JSON object, not null"),
        ("1", WrongType, "not a number"),
        ("true", WrongType, "not a boolean"),
        ('"x"', WrongType, "not a string"),
        ("[]", WrongType, "not an array"),
        ("{}", MissingField, "expected a string in 'type' or in 'action'"),
        ('{"type":"nope"}', UnknownAction, "'type' 'nope'.*subscribe, unsubscribe, publish, ping, message"),
        ('{"type":5}', WrongType, "'type' must be a string"),
        ('{"action":5}', WrongType, "'action' must be a string"),
        ('{"type":"nope","action":null}', WrongType, "'action' must be a string, not null"),
        ("[" * 100_000, TooDeep, "nested too deeply"),
        ('{"action":"sendmessage","message":1,"id":5}', WrongType, "'id' must be a string of at most 64 characters"),
        (f'{{"action":"sendmessage","message":1,"id":"{"x" * 65}"}}', TooLarge, "'id' is 65 characters"),
    ],
)
def test_json_that_no_dialect_takes_is_refused(text: str, error: type[ClientError], says: str) -> None:
    with pytest.raises(error, match=says):
        decode(text)


@pytest.mark.parametrize("text", ['{"type":"nope","id":"1"}', '{"id":"1"}', '{"action":5,"id":"1"}'])
def test_the_id_of_a_frame_that_no_dialect_takes_is_kept_too(text: str) -> None:
    assert route(text)[0].id == "1"


def test_an_id_is_kept_with_the_frame() -> None:
    assert route(f'{{"action":"joinchannel","id":"{"x" * 64}"}}')[0].id == "x" * 64
    assert route('{"action":"joinchannel","id":null}')[0].id is None


def test_no_two_dialects_take_the_same_frame_or_write_for_the_same_members() -> None:
    def all_of(part: str) -> list[str]:
        return [key for dialect in DIALECTS for key in getattr(dialect, part)]

    for part in ("types", "actions", "members"):
        assert len(all_of(part)) == len(set(all_of(part)))
    assert set(all_of("actions")) == BUILT_IN_ACTIONS
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)
    assert all(isinstance(dialect, Dialect) for dialect in DIALECTS)


values = st.sampled_from([*(kind for d in DIALECTS for kind in (*d.types, *d.actions)), "chat"]) | json_values
frames = st.dictionaries(
    st.sampled_from(["type", "action", "id", "ack", "channel", "message", "messageBody", "room", "data", "topics"])
    | st.sampled_from(["topic", "envelope"]),
    values,
)


@given(any_text | frames.map(compact) | json_values.map(compact))
@example('{"type":"publish","topic":"\\ud800","data":"\\udfff"}')
def test_any_text_becomes_commands_or_a_client_error(text: str) -> None:
    try:
        decode(text)
    except ClientError as error:
        assert str(error).isprintable()


def message(body: JSON, dialect: str, channel: str = "c") -> Message:
    return Message(ChannelName(channel), body, dialect, ME, 1_700_000_000_123)


Y_OBJECT = {"type": "publish", "topic": "c", "data": {"type": "announce"}, "clients": "mine", "extra": [1]}
CHAT = {"action": "chat", "channel": "c", "from": ME, "message": "m"}


@pytest.mark.parametrize(
    ("sent", "text", "envelope", "ywebrtc"),
    [
        (message("m", "pubsub"), "m", "m", {"type": "publish", "topic": "c", "data": "m", "clients": 3}),
        (message("m", "rooms"), "m", "m", {"type": "publish", "topic": "c", "data": "m", "clients": 3}),
        (message("m", "everyone"), "m", "m", {"type": "publish", "topic": "c", "data": "m", "clients": 3}),
        (
            message({"a": "é"}, "pubsub"),
            '{"a":"é"}',
            {"a": "é"},
            {"type": "publish", "topic": "c", "data": {"a": "é"}, "clients": 3},
        ),
        (message(None, "pubsub"), "null", None, {"type": "publish", "topic": "c", "data": None, "clients": 3}),
        (message(Y_OBJECT, "ywebrtc"), compact(Y_OBJECT), Y_OBJECT, {**Y_OBJECT, "clients": 3}),
        (message(CHAT, "actions"), compact(CHAT), CHAT, CHAT),
        (message("HI", "actions"), "HI", "HI", {"type": "publish", "topic": "c", "data": "HI", "clients": 3}),
    ],
)
def test_each_kind_of_member_gets_what_the_table_of_the_design_says(
    sent: Message, text: str, envelope: JSON, ywebrtc: JSON
) -> None:
    encoded = Encoded(sent, 3)
    assert encoded.text_for("text") == text
    assert json.loads(encoded.text_for("envelope")) == {
        "channel": "c",
        "message": envelope,
        "from": ME,
        "at": 1_700_000_000_123,
    }
    assert json.loads(encoded.text_for("ywebrtc")) == ywebrtc


def test_a_kind_of_member_from_a_newer_version_gets_bare_text() -> None:
    assert Encoded(message("m", "pubsub"), 1).text_for("semaphore") == "m"


def test_text_that_utf8_cannot_carry_is_replaced_and_json_escaped() -> None:
    encoded = Encoded(message("a\ud800", "pubsub", channel="\udfff"), 1)
    assert encoded.text_for("text") == "a\ufffd"
    assert encoded.text_for("ywebrtc") == '{"type":"publish","topic":"\\udfff","data":"a\\ud800","clients":1}'


@given(json_values, st.sampled_from(["pubsub", "rooms", "everyone", "actions"]), any_text)
def test_what_a_ywebrtc_member_gets_is_always_a_json_object_in_utf8(body: JSON, dialect: str, channel: str) -> None:
    text = Encoded(message(body, dialect, channel), 1).text_for("ywebrtc")
    text.encode()
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("body", ["x" * 131_073, "é" * 65_537, "x" * 131_072])
def test_a_message_that_is_too_large_in_any_form_is_refused(body: str) -> None:
    with pytest.raises(TooLarge, match="the limit is 131,072"):
        Encoded(message(body, "pubsub"), 1)


def test_the_limit_is_in_bytes_of_utf8_and_includes_itself() -> None:
    check_size("é" * 65_536, "it")
    with pytest.raises(TooLarge, match="it is 131,073 bytes"):
        check_size("é" * 65_536 + "x", "it")
