"""What is said: messages of each dialect, and the frames that publish them. Each has its mark near its beginning."""

from __future__ import annotations

import random
from typing import NamedTuple

from .history import JSON, Connection, Message, mark

LONG_SHARE, LONG_CHARACTERS, SHORT_CHARACTERS = 0.01, 20_000, 200
OBJECT_SHARE, ANNOUNCE_SHARE = 0.2, 0.2


class Said(NamedTuple):
    """A message, and the frame that publishes it (a backend's has none)."""

    message: Message
    frame: JSON


def say(kind: str, number: int, channel: str, sender: Connection | None, dice: random.Random) -> Said:
    """A message of that kind of client to the channel, of random length."""
    body = _body(number, dice)
    message = Message(number, channel, body, sender)
    match kind:
        case "rooms":
            return Said(message, {"action": "message", "messageBody": body})
        case "everyone":
            message.to_sender = True
            return Said(message, {"type": "message", "data": body})
        case "chat":
            message.body = {"action": "chat", "channel": channel, "from": sender and sender.id, "message": body}
            return Said(message, {"action": "chat", "channel": channel, "message": body})
        case "ywebrtc" | "announce":
            announces = kind == "announce" or dice.random() < ANNOUNCE_SHARE
            signal = {"type": "announce" if announces else "signal", "from": mark(number), "signal": body}
            message.body = {"type": "publish", "topic": channel, "data": signal}
            message.to_sender, message.wants_answer = True, False
            return Said(message, message.body)
    return Said(message, {"action": "sendmessage", "channel": channel, "message": body})


def _body(number: int, dice: random.Random) -> JSON:
    length = LONG_CHARACTERS if dice.random() < LONG_SHARE else dice.randrange(SHORT_CHARACTERS)
    text = f"{mark(number)} {'x' * length}"
    return {"text": text, "length": length} if dice.random() < OBJECT_SHARE else text
