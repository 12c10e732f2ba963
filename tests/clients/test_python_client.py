"""A plain WebSocket client, frame by frame: the dialects as the table of the design has them, and what becomes of a
message whose receivers speak another dialect than its sender.

Of ywebrtc there is only what touches the others; test_y_webrtc_signaling.py has the rest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from websockets.sync.client import connect

from tests.server import Server

from .plain_client import JSON, Client

Connect: TypeAlias = Callable[..., Client]


@pytest.fixture
def connected(channels: Server) -> Iterator[Connect]:
    """Opens connections with these parameters in the URL, and closes them when the test is over."""
    with ExitStack() as connections:

        def open_one(**query: str) -> Client:
            url = f"{channels.url}?{urlencode(query)}" if query else channels.url
            return Client(connections.enter_context(connect(url)))

        yield open_one


@pytest.fixture
def channel() -> str:
    """The name of a channel that no other test uses."""
    return f"channel {uuid4()}"


class TestPubsub:
    def test_a_join_is_acknowledged_with_the_connection_id(self, connected: Connect, channel: str) -> None:
        ann, ben = connected(), connected()
        assert ann.join(channel) != ben.join(channel)

    def test_a_message_reaches_every_member_but_its_sender(self, connected: Connect, channel: str) -> None:
        ann, ben, eve = connected(), connected(), connected()
        for member in (ann, ben, eve):
            member.join(channel)
        ack = ann.ask(action="sendmessage", channel=channel, message="to you all", ack=True, id="a1")
        assert ack == {"type": "ack", "id": "a1", "delivered": 2, "stale": 0}
        assert [ben.text(), eve.text()] == ["to you all", "to you all"]
        ann.assert_nothing_came()

    def test_a_sender_need_not_be_a_member(self, connected: Connect, channel: str) -> None:
        member, guest = connected(), connected()
        member.join(channel)
        guest.send(action="sendmessage", channel=channel, message="from outside")
        assert member.text() == "from outside"

    def test_a_message_without_a_channel_goes_to_the_default_channel(self, connected: Connect) -> None:
        at_home, sender = connected(), connected(room="")
        sender.send(action="sendmessage", message="to the default channel")
        assert at_home.text() == "to the default channel"

    def test_a_leave_is_acknowledged_and_ends_it(self, connected: Connect, channel: str) -> None:
        ann, ben = connected(), connected()
        connection_id = ann.join(channel)
        left = ann.ask(action="leavechannel", channel=channel, id="bye")
        assert left == {"channel": channel, "connectionId": connection_id, "left": True, "id": "bye"}
        ack = ben.ask(action="sendmessage", channel=channel, message="anyone?", ack=True)
        assert ack == {"type": "ack", "delivered": 0, "stale": 0}
        ann.assert_nothing_came()

    def test_a_member_for_envelopes_gets_where_who_and_when(self, connected: Connect, channel: str) -> None:
        member, sender = connected(), connected()
        member.join(channel, envelope=True)
        sender_id = sender.join(channel)
        before = time.time_ns() // 1_000_000
        sender.send(action="sendmessage", channel=channel, message={"any": ["JSON", 1]})
        envelope = member.json()
        after = time.time_ns() // 1_000_000
        assert envelope == {
            "channel": channel,
            "message": {"any": ["JSON", 1]},
            "from": sender_id,
            "at": envelope["at"],
        }
        assert isinstance(envelope["at"], int)
        assert before <= envelope["at"] <= after

    @pytest.mark.parametrize(
        ("message", "text"),
        [
            ("", ""),
            ("zażółć 🦆", "zażółć 🦆"),
            ('{"already": "JSON"}', '{"already": "JSON"}'),
            (None, "null"),
            (1.5, "1.5"),
            ({"ż": [1, True, "🦆"]}, '{"ż":[1,true,"🦆"]}'),
        ],
    )
    def test_bare_text_is_the_string_itself_or_the_value_as_compact_json(
        self, connected: Connect, channel: str, message: JSON, text: str
    ) -> None:
        member, sender = connected(), connected()
        member.join(channel)
        sender.send(action="sendmessage", channel=channel, message=message)
        assert member.text() == text

    def test_an_id_comes_back_in_the_ack_and_in_the_error_of_its_frame(self, connected: Connect, channel: str) -> None:
        client = connected()
        joined = client.ask(action="joinchannel", channel=channel, id="j")
        assert joined == {"channel": channel, "connectionId": joined["connectionId"], "id": "j"}
        assert_error(client.ask(action="joinchannel", id="e"), "missing_field", "e")
        assert_error(client.ask(action="joinchannel", channel=["a"], id="f"), "wrong_type", "f")
        assert_error(client.ask(action="sendmessage", channel=channel, id="g"), "missing_field", "g")


class TestRooms:
    def test_a_message_reaches_everyone_else_in_the_room(self, connected: Connect, channel: str) -> None:
        ann, ben, outside = connected(room=channel), connected(channel=channel), connected()
        ack = ann.ask(action="message", messageBody="hello room", ack=True, id="r")
        assert ack == {"type": "ack", "id": "r", "delivered": 1, "stale": 0}
        assert ben.text() == "hello room"
        ann.assert_nothing_came()
        outside.assert_nothing_came()

    def test_a_frame_may_name_another_room(self, connected: Connect, channel: str) -> None:
        member, sender = connected(room=channel), connected()
        sender.send(action="message", messageBody=["hello", "other room"], room=channel)
        assert member.text() == '["hello","other room"]'

    def test_a_client_without_a_room_is_told_to_name_one(self, connected: Connect) -> None:
        assert_error(connected(room="").ask(action="message", messageBody="?", id="n"), "no_home_channel", "n")


class TestEveryone:
    def test_a_message_reaches_everyone_in_the_home_channel_its_sender_too(
        self, connected: Connect, channel: str
    ) -> None:
        ann, ben, outside = connected(room=channel), connected(room=channel), connected(room=f"{channel}!")
        ann.send(type="message", data="hello everyone", ack=True, id="e")
        assert [ann.text(), ben.text()] == ["hello everyone", "hello everyone"]
        assert ann.json() == {"type": "ack", "id": "e", "delivered": 2, "stale": 0}
        outside.assert_nothing_came()

    def test_the_home_channel_of_a_url_that_names_none_is_the_default_one(self, connected: Connect) -> None:
        ann, ben = connected(), connected(room="default")
        ann.send(type="message", data={"hello": "everyone"})
        assert [ann.text(), ben.text()] == ['{"hello":"everyone"}'] * 2

    def test_text_that_is_not_json_is_answered(self, connected: Connect) -> None:
        client = connected()
        for said, answered in (("Marko?", "Polo!"), ("hello", "Marko?"), ("{", "Marko?"), ("NaN", "Marko?")):
            client.send_text(said)
            assert client.text() == answered


class TestActions:
    def test_a_chat_message_reaches_the_others_with_who_sent_it(self, connected: Connect, channel: str) -> None:
        ann, ben = connected(), connected()
        ann_id = ann.join(channel)
        ben.join(channel)
        ack = ann.ask(action="chat", channel=channel, message="hi", ack=True, id="c")
        assert ack == {"type": "ack", "id": "c", "delivered": 1, "stale": 0}
        assert ben.json() == {"action": "chat", "channel": channel, "from": ann_id, "message": "hi"}
        ann.assert_nothing_came()

    def test_a_chat_message_without_a_channel_goes_to_the_home_channel(self, connected: Connect, channel: str) -> None:
        ann, ben = connected(room=channel), connected(room=channel)
        ann.send(action="chat", message="hi")
        heard = ben.json()
        assert heard == {"action": "chat", "channel": channel, "from": heard["from"], "message": "hi"}

    def test_an_action_that_nobody_registered_is_an_error(self, connected: Connect) -> None:
        assert_error(connected().ask(action="fly", id="u"), "unknown_action", "u")

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("[]", "wrong_type"),
            ("null", "wrong_type"),
            ("{}", "missing_field"),
            ('{"action":1}', "wrong_type"),
            ('{"type":"unheard of"}', "unknown_action"),
            ('{"action":"sendmessage","message":1e999}', "invalid_number"),
            (f'{{"action":"chat","message":1,"id":"{"x" * 65}"}}', "too_large"),
        ],
    )
    def test_json_that_is_no_frame_is_an_error_and_the_connection_lives_on(
        self, connected: Connect, text: str, code: str
    ) -> None:
        client = connected()
        client.send_text(text)
        assert_error(client.json(), code)
        client.assert_nothing_came()


class TestWhichDialectAFrameIsIn:
    def test_a_type_that_a_dialect_knows_decides(self, connected: Connect, channel: str) -> None:
        client = connected()
        client.join(channel)
        client.send(type="ping", action="leavechannel", channel=channel)
        assert client.json() == {"type": "pong"}
        connected().send(action="sendmessage", channel=channel, message="still a member")
        assert client.text() == "still a member"

    def test_a_type_that_none_knows_leaves_it_to_the_action(self, connected: Connect, channel: str) -> None:
        ack = connected().ask(type="unheard of", action="joinchannel", channel=channel)
        assert ack == {"channel": channel, "connectionId": ack["connectionId"]}

    def test_one_connection_is_a_member_of_each_channel_in_the_dialect_it_joined_with(
        self, connected: Connect, channel: str
    ) -> None:
        member, sender = connected(room=""), connected()
        member.subscribe(f"{channel} for objects")
        member.join(f"{channel} for text")
        member.join(f"{channel} for envelopes", envelope=True)
        for kind in ("objects", "text", "envelopes"):
            sent = sender.ask(action="sendmessage", channel=f"{channel} for {kind}", message="hello", ack=True)
            assert sent["delivered"] == 1
        publish = {"type": "publish", "topic": f"{channel} for objects", "data": "hello", "clients": 1}
        assert member.json() == publish
        assert member.text() == "hello"
        assert_envelope(member, f"{channel} for envelopes", "hello")


class TestMembersOfEachDialectInOneChannel:
    """What is sent in one dialect comes in the form of each receiver's."""

    @pytest.fixture
    def members(self, connected: Connect, channel: str) -> dict[str, Client]:
        """One member of each kind; the y-webrtc subscriber has also heard that it is subscribed."""
        home, text, envelope, ywebrtc = connected(room=channel), connected(), connected(), connected()
        ywebrtc.subscribe(channel)
        assert json.loads(home.text())["data"] == "subscribed?"
        text.join(channel)
        envelope.join(channel, envelope=True)
        return {"home": home, "text": text, "envelope": envelope, "ywebrtc": ywebrtc}

    def test_a_text_message(self, connected: Connect, members: dict[str, Client], channel: str) -> None:
        connected().send(action="sendmessage", channel=channel, message="hello")
        assert members["home"].text() == "hello"
        assert members["text"].text() == "hello"
        assert_envelope(members["envelope"], channel, "hello")
        assert members["ywebrtc"].json() == {"type": "publish", "topic": channel, "data": "hello", "clients": 4}

    def test_a_json_message(self, connected: Connect, members: dict[str, Client], channel: str) -> None:
        value = {"n": [1, None, "ż"]}
        connected().send(action="message", room=channel, messageBody=value)
        assert members["home"].text() == '{"n":[1,null,"ż"]}'
        assert members["text"].text() == '{"n":[1,null,"ż"]}'
        assert_envelope(members["envelope"], channel, value)
        assert members["ywebrtc"].json() == {"type": "publish", "topic": channel, "data": value, "clients": 4}

    def test_a_message_to_everyone(self, members: dict[str, Client], channel: str) -> None:
        members["home"].send(type="message", data="all of you")
        assert members["home"].text() == "all of you"
        assert members["text"].text() == "all of you"
        assert_envelope(members["envelope"], channel, "all of you")
        assert members["ywebrtc"].json() == {"type": "publish", "topic": channel, "data": "all of you", "clients": 4}

    def test_a_y_webrtc_publish(self, members: dict[str, Client], channel: str) -> None:
        frame = {"type": "publish", "topic": channel, "data": {"type": "signal"}, "extra": "kept"}
        members["ywebrtc"].send(**frame)
        assert members["home"].json() == frame
        assert members["text"].json() == frame
        assert_envelope(members["envelope"], channel, frame)
        assert members["ywebrtc"].json() == {**frame, "clients": 4}

    def test_a_custom_action(self, connected: Connect, members: dict[str, Client], channel: str) -> None:
        sender = connected(room=channel)
        sender_id = sender.join(channel)
        sender.send(action="chat", message="hi")
        expected = {"action": "chat", "channel": channel, "from": sender_id, "message": "hi"}
        assert members["home"].json() == expected
        assert members["text"].json() == expected
        assert_envelope(members["envelope"], channel, expected)
        assert members["ywebrtc"].json() == expected


def assert_envelope(member: Client, channel: str, message: JSON) -> None:
    envelope = member.json()
    assert (envelope["channel"], envelope["message"]) == (channel, message)
    assert set(envelope) == {"channel", "message", "from", "at"}


def assert_error(frame: JSON, code: str, request_id: str | None = None) -> None:
    """An error frame of that code: a sentence for people, and the id of the frame that it is about if it had one."""
    expected = {"type": "error", "code": code, "message": frame["message"]}
    assert frame == (expected if request_id is None else {**expected, "id": request_id})
    assert frame["message"].endswith(".")
