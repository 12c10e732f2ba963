"""What clients of Channels say to each other, and what each of them is promised: one function a conversation.

Knows frames, and nothing of addresses and sockets. All channels have names that nobody else uses, and no frame goes to
the default channel, so that a conversation may be held on a server that is in use, and beside another.

Only what README.md promises is expected, so that it holds on AWS too: of several frames any order, of time a bound and
no more. That something does not come is shown by what is sent after it, never by waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from websockets.exceptions import InvalidStatus

if TYPE_CHECKING:
    from .clients import Client, Party

JSON: TypeAlias = Any
Expected: TypeAlias = Any
"""Text, or an object in which a type such as `str` stands for any value of it."""

MESSAGE_BYTES = 128 * 1024
"""The largest message that API Gateway takes.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
"""


def matches(value: JSON, expected: Expected) -> bool:
    """Whether that is what was expected."""
    if isinstance(expected, type):
        return type(value) is expected
    if isinstance(expected, dict) and isinstance(value, dict):
        return value.keys() == expected.keys() and all(matches(value[name], expected[name]) for name in expected)
    return type(value) is type(expected) and bool(value == expected)


def a_channel() -> str:
    """A name that no one else uses."""
    return f"verify {uuid4()}"


def ack(delivered: int, **more: JSON) -> JSON:
    return {"type": "ack", "delivered": delivered, "stale": 0, **more}


def signal(topic: str, data: JSON, **more: JSON) -> JSON:
    """A publish of y-webrtc that is not an announce."""
    return {"type": "publish", "topic": topic, "data": {"type": "signal", "signal": data}, **more}


def announce(topic: str, sender: Client, **more: JSON) -> JSON:
    return {"type": "publish", "topic": topic, "data": {"type": "announce", "from": sender.name}, **more}


def pubsub(party: Party) -> None:
    """A message reaches all members but its sender, who need not be one; after a leave no more."""
    ann, ben, guest = party.clients("ann", "ben", "guest")
    channel = a_channel()
    ann.join(channel)
    ben.join(channel)
    ann.publish(channel, "from ann", reaches=1)
    ben.expect("from ann")
    guest.publish(channel, "from a guest", reaches=2)
    ann.expect("from a guest")
    ben.expect("from a guest")
    ben.send({"action": "leavechannel", "channel": channel, "id": "bye"})
    ben.expect({"channel": channel, "connectionId": ben.id, "left": True, "id": "bye"})
    ann.publish(channel, "is anyone there?", reaches=0)
    for client in (ann, ben, guest):
        client.expect_nothing()


def rooms(party: Party) -> None:
    """A message reaches everyone else in the room of the URL, or in the frame's, and no other."""
    room = f"{a_channel()} żółć 日本語 &?#%/+"
    ann, ben = party.clients("ann", "ben", room=room)
    outside = party.client("outside")
    ann.send({"action": "message", "messageBody": "to our room", "ack": True})
    ann.expect(ack(1))
    ben.expect("to our room")
    outside.expect_nothing()
    outside.send({"action": "message", "messageBody": "from outside", "room": room, "ack": True})
    outside.expect(ack(2))
    ann.expect("from outside")
    ben.expect("from outside")
    ann.expect_nothing()


def everyone(party: Party) -> None:
    """A message reaches everyone in the sender's home channel, the sender too, and no other."""
    ann, ben = party.clients("ann", "ben", room=a_channel())
    outside = party.client("outside")
    ann.send({"type": "message", "data": "hello everyone", "ack": True, "id": "e"})
    ann.expect("hello everyone", ack(2, id="e"))
    ben.expect("hello everyone")
    outside.expect_nothing()


def marko(party: Party) -> None:
    """Text that is not JSON is answered, to its sender alone."""
    ann, ben = party.clients("ann", "ben", room=a_channel())
    for said, answered in (("Marko?", "Polo!"), ("hello", "Marko?"), ("{", "Marko?")):
        ann.send(said)
        ann.expect(answered)
    ben.expect_nothing()


def chat(party: Party) -> None:
    """The custom action reaches the others with its sender's id, in a channel and in the home channel."""
    room, channel = a_channel(), a_channel()
    ann, ben = party.clients("ann", "ben", room=room)
    ann.join(channel)
    ben.join(channel)
    for where, named in ((channel, {"channel": channel}), (room, {})):
        ann.send({"action": "chat", "message": "hi", "ack": True, "id": "c", **named})
        ann.expect(ack(1, id="c"))
        ben.expect({"action": "chat", "channel": where, "from": ann.id, "message": "hi"})
    ann.expect_nothing()


def y_webrtc(party: Party) -> None:
    """A publish reaches all subscribers, with their number; after an unsubscribe no more. A ping is answered."""
    ann, ben = party.clients("ann", "ben")
    topic = a_channel()
    for client, clients in ((ann, 1), (ben, 2)):
        client.send({"type": "subscribe", "topics": [topic]})
        client.send(signal(topic, client.name, extra="kept"))
        client.expect(signal(topic, client.name, extra="kept", clients=clients))
    ann.expect(signal(topic, "ben", extra="kept", clients=2))
    ann.send({"type": "ping"})
    ann.expect({"type": "pong"})
    ben.send({"type": "unsubscribe", "topics": [topic]})
    for number in party.until("ann to be the only subscriber"):
        ann.send(signal(topic, number))
        [came] = ann.expect(signal(topic, number, clients=int))
        if came["clients"] == 1:
            break
        ben.expect(came)
    ben.expect_nothing()


def rendezvous(party: Party) -> None:
    """Of two that subscribe and announce back to back, the later one's announce reaches the earlier one, once, and not
    the other way round: both would offer, and no data ever flow.
    """
    ann, ben = party.clients("ann", "ben")
    topic = a_channel()
    for client in (ann, ben):
        client.send({"type": "subscribe", "topics": [topic]})
        client.send(announce(topic, client))
        client.expect(announce(topic, client, clients=int))
    ann.expect(announce(topic, ben, clients=2))
    ben.send(signal(topic, "after all"))
    for client in (ann, ben):
        client.expect(signal(topic, "after all", clients=2))


def at_once(party: Party) -> None:
    """Two that subscribe and announce at the same moment meet, and neither hears an announce twice."""
    ann, ben = party.clients("ann", "ben")
    topic = a_channel()
    for client in (ann, ben):
        client.send({"type": "subscribe", "topics": [topic]})
        client.send(announce(topic, client))
    missing = [(hearer, sender) for hearer in (ann, ben) for sender in (ann, ben)]
    # One of the two need not hear the other. Where both do, the one that came first is heard later.
    for _ in party.until("each to hear itself, and one of them the other"):
        for hearer in (ann, ben):
            for came in hearer.heard():
                known = (pair for pair in missing if matches(came, announce(topic, pair[1], clients=int)))
                pair = next((pair for pair in known if pair[0] is hearer), None)
                if pair is None:
                    raise party.failed(f"{hearer.name}: each announce once", f"{came}")
                missing.remove(pair)
        if not missing or (len(missing) == 1 and missing[0][0] is not missing[0][1]):
            break


def mixed(party: Party) -> None:
    """What is sent in one dialect comes in the form of each member's."""
    page, envelope = party.clients("page", "envelope")
    channel = a_channel()
    page.send({"type": "subscribe", "topics": [channel]})
    page.send(signal(channel, "alone"))
    page.expect(signal(channel, "alone", clients=1))
    envelope.join(channel, envelope=True)
    text = party.client("text", room=channel)

    envelope.publish(channel, {"any": ["JSON", None]}, reaches=2)
    text.expect({"any": ["JSON", None]})
    page.expect({"type": "publish", "topic": channel, "data": {"any": ["JSON", None]}, "clients": 3})

    page.send(signal(channel, "to all"))
    text.expect(signal(channel, "to all"))
    envelope.expect({"channel": channel, "message": signal(channel, "to all"), "from": str, "at": int})
    page.expect(signal(channel, "to all", clients=3))

    text.send({"action": "chat", "message": "hi"})
    chatted = {"action": "chat", "channel": channel, "from": str, "message": "hi"}
    envelope.expect({"channel": channel, "message": chatted, "from": str, "at": int})
    page.expect(chatted)
    text.expect_nothing()


def names(party: Party) -> None:
    """A channel's name is any text."""
    ann, ben = party.clients("ann", "ben")
    own = a_channel()
    odd = ("żółć 日本語 👩‍👩‍👧", "a b/c?d#e%20", 'quote " and \\', "\x00\n\x7f\u2028", "half \ud83d", "x" * 2_000)
    reserved = ("@", "@connection#", "@name#")
    for name in (*(f"{own} {ending}" for ending in odd), *(f"{start}{own}" for start in reserved)):
        ann.join(name)
        ben.publish(name, "to an odd name", reaches=1)
        ann.expect("to an odd name")


def texts(party: Party) -> None:
    """A message comes as it was sent, whatever is in it."""
    ann, ben = party.clients("ann", "ben")
    channel = a_channel()
    ann.join(channel)
    for text in ("żółć 日本語 👩‍👩‍👧", 'quote " and \\', "line\n\r\t\x00\x7f\u2028", "null", "Polo!"):
        ben.publish(channel, text, reaches=1)
        ann.expect(text)


def errors(party: Party) -> None:
    """A frame that cannot be acted on is answered with an error, and the connection lives on."""
    ann, homeless = party.client("ann"), party.client("homeless", room="")
    channel = a_channel()
    for client, frame, code in (
        (ann, {"action": "no such action"}, "unknown_action"),
        (ann, {"type": "no such type"}, "unknown_action"),
        (ann, {"action": "joinchannel"}, "missing_field"),
        (ann, {"action": "joinchannel", "channel": ["a"]}, "wrong_type"),
        (ann, {"action": "sendmessage", "channel": channel, "message": 1, "ack": "yes"}, "wrong_type"),
        (homeless, {"action": "chat"}, "no_home_channel"),
    ):
        client.send({**frame, "id": "e"})
        client.expect({"type": "error", "code": code, "message": str, "id": "e"})
    ann.send("[]")
    ann.expect({"type": "error", "code": "wrong_type", "message": str})
    ann.expect_nothing()


def large(party: Party) -> None:
    """A message of 127 KB arrives whole."""
    ann, ben = party.clients("ann", "ben")
    channel = a_channel()
    ann.join(channel)
    text = "".join(f"{number:08}" for number in range(127 * 1024 // 8))
    ben.publish(channel, text, reaches=1)
    ann.expect(text)


def too_large(party: Party) -> None:
    """A message that with the fields added to it is over 128 KB reaches nobody, and its sender is told."""
    ann, ben = party.clients("ann", "ben", room=a_channel())
    ben.send({"type": "message", "data": "x" * (MESSAGE_BYTES - 40)})
    ben.expect({"type": "error", "code": "too_large", "message": str})
    for client in (ann, ben):
        client.expect_nothing()


def over_128_kb(party: Party) -> None:
    """A message over 128 KB ends its sender's connection, and no other."""
    ann, ben = party.clients("ann", "ben", room=a_channel())
    ben.send({"type": "message", "data": "x" * MESSAGE_BYTES})
    ben.expect_close(1009)
    ann.expect_nothing()


def binary(party: Party) -> None:
    """Binary data ends its sender's connection, and no other."""
    ann, ben = party.clients("ann", "ben", room=a_channel())
    ben.send(b"Marko?")
    ben.expect_close(1003)
    ann.expect_nothing()


def many_joins(party: Party) -> None:
    """Joins that are sent all at once are all written when they are acknowledged."""
    ann, ben = party.clients("ann", "ben")
    channels = [a_channel() for _ in range(30)]
    for channel in channels:
        ann.send({"action": "joinchannel", "channel": channel})
    ann.expect(*({"channel": channel, "connectionId": str} for channel in channels))
    for channel in channels:
        ben.publish(channel, f"to {channel}", reaches=1)
    ann.expect(*(f"to {channel}" for channel in channels))


def many_publishes(party: Party) -> None:
    """Of twenty messages that are sent all at once, each arrives, and none twice."""
    ann, ben = party.clients("ann", "ben")
    channel = a_channel()
    ann.join(channel)
    for number in range(20):
        ben.send({"action": "sendmessage", "channel": channel, "message": f"message {number}"})
    ann.expect(*(f"message {number}" for number in range(20)))
    ben.publish(channel, "the last", reaches=1)
    ann.expect("the last")


def last_word(party: Party) -> None:
    """Of a leave and a join that are sent at once, the join counts, in whatever order they are handled."""
    ann, ben = party.clients("ann", "ben")
    channel = a_channel()
    ann.join(channel)
    for _ in range(5):
        ann.send({"action": "leavechannel", "channel": channel})
        ann.send({"action": "joinchannel", "channel": channel})
        ann.expect(
            {"channel": channel, "connectionId": ann.id, "left": True}, {"channel": channel, "connectionId": ann.id}
        )
        ben.publish(channel, "still there?", reaches=1)
        ann.expect("still there?")


def gone(party: Party) -> None:
    """A member that disconnects is soon no member: nothing is sent to it, and nothing fails."""
    ann, ben = party.clients("ann", "ben")
    channel = a_channel()
    ben.join(channel)
    ann.publish(channel, "are you there?", reaches=1)
    ben.expect("are you there?")
    ben.close()
    for _ in party.until(f"ann: {ack(0)}"):
        ann.send({"action": "sendmessage", "channel": channel, "message": "and now?", "ack": True})
        if ann.expect(dict) == [ack(0)]:
            break


def other_path(party: Party) -> None:
    """Behind the stage there is no other path."""
    try:
        party.client("ann", path="/nowhere")
    except InvalidStatus as refused:
        if refused.response.status_code != HTTPStatus.FORBIDDEN:
            raise party.failed("to be refused with 403", f"{refused}") from refused
    else:
        raise party.failed("to be refused with 403", "a connection")


CONVERSATIONS: Mapping[str, Callable[[Party], None]] = {
    "pub/sub": pubsub,
    "rooms": rooms,
    "everyone": everyone,
    "Marko? Polo!": marko,
    "a custom action": chat,
    "y-webrtc": y_webrtc,
    "y-webrtc, one after the other": rendezvous,
    "y-webrtc, at the same moment": at_once,
    "all dialects in one channel": mixed,
    "names of channels": names,
    "texts": texts,
    "errors": errors,
    "127 KB": large,
    "too large when written out": too_large,
    "over 128 KB": over_128_kb,
    "binary data": binary,
    "30 joins at once": many_joins,
    "20 messages at once": many_publishes,
    "a leave and a join at once": last_word,
    "a member that disconnects": gone,
    "another path": other_path,
}
"""By the name that a report tells them by, and that leaves one out where a server is known to differ."""
