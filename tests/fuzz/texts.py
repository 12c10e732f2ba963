"""Frames as strangers write them: of every kind, right and wrong, and what is left of them after an accident.

JSON is written field by field, as text: a frame may have a field twice, NaN, or a number that nothing can hold.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

BARRED = "members-only"
"""The channel that the hooks refuse, where a round has hooks."""

Fields: TypeAlias = list[tuple[str, str]]
"""Names and JSON texts."""

CHANNELS = (
    *(
        "news",
        "news",
        "orders",
        "orders:7",
        "orders:7:notes",
        "orders*",
        "ordersx",
        "lobby",
        "lobby",
        "default",
        "home",
    ),
    *(
        "inbox:ada",
        "inbox:grace",
        "a:b:c",
        "a:b:b:c",
        "a:c",
        "a:x:c:d",
        "a::c",
        "axc",
        ":",
        "",
        "*",
        "orders:*",
        "News",
    ),
    *("@address", "@", "@name#0", "x" * 300, "x" * 255, "é" * 128, "doc\ud800", "news\n", "news\0", "\x1b[31mred"),
    *("caf\u00e9", "cafe\u0301", "\u202enews", "\U0001f600", "__proto__", BARRED),
)
BODIES = (
    *(
        "canary-body",
        "hi",
        "",
        "Marko?",
        "\ud800",
        "\udfff\ud800",
        "\U0001f600",
        "\u2028\u2029",
        "\0\x1b\x7f\n",
        "é" * 50,
    ),
    *("{}", "null", '{"type":"ping"}', "x" * 500, "canary-body " * 20),
)
NUMBERS = ("0", "-0", "7", "1.5", "-1e-7", "1e308", "123456789012345678901234567890", "9" * 308)
TOO_BIG = ("1e309", "-1e999", "9" * 400, "1" + "0" * 309)
CONSTANTS = ("NaN", "Infinity", "-Infinity")
NO_JSON = (
    "Marko?",
    "hello",
    "",
    " ",
    "{",
    "}",
    '{"type"',
    "\ufeff{}",
    "'",
    "undefined",
    "\x00",
    "\ud800",
    "ping",
    "GET / HTTP/1.1",
)
ACTIONS = ("shout", "", "chat ", "JOINCHANNEL", "__class__", "subscribe", "\x1b[2J\n", "x" * 200, "\ud800", "connect")


def text(rng: random.Random, value: str) -> str:
    """A JSON string, with or without ASCII escapes."""
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def body(rng: random.Random, depth: int = 0) -> str:
    """Any JSON value."""
    dice = rng.random()
    if dice < 0.5:
        return text(rng, rng.choice(BODIES))
    if dice < 0.65:
        return rng.choice(NUMBERS)
    if dice < 0.8 or depth > 3:
        return rng.choice(("null", "true", "false", "[]", "{}"))
    if dice < 0.9:
        return f"[{','.join(body(rng, depth + 1) for _ in range(rng.randrange(4)))}]"
    return written(rng, [(rng.choice(BODIES[:6]), body(rng, depth + 1)) for _ in range(rng.randrange(4))])


def odd(rng: random.Random) -> str:
    """A JSON value that is seldom the right one; some are none."""
    dice = rng.random()
    if dice < 0.75:
        return body(rng)
    if dice < 0.85:
        return rng.choice(TOO_BIG)
    if dice < 0.9:
        return rng.choice(CONSTANTS)
    if dice < 0.97:
        depth = rng.choice((20, 200, 200, 3_000, 50_000))
        return "[" * depth + "]" * depth if rng.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
    return text(rng, rng.choice(("x" * 140_000, "x" * 50_000, "é" * 65_000, "\ud800" * 20_000, "\x01" * 30_000)))


def written(rng: random.Random, fields: Fields) -> str:
    comma, colon = rng.choice(((",", ":"), (",", ":"), (", ", ": "), (" ,\n", "\t: ")))
    return "{" + comma.join(f"{text(rng, name)}{colon}{value}" for name, value in fields) + "}"


def channel(rng: random.Random) -> str:
    return text(rng, rng.choice(CHANNELS))


def _subscribe(rng: random.Random) -> Fields:
    number = rng.choice((0, 1, 1, 1, 2, 2, 3, 8, 30))
    topics = [odd(rng) if rng.random() < 0.05 else channel(rng) for _ in range(number)]
    return [
        ("type", text(rng, rng.choice(("subscribe", "subscribe", "unsubscribe")))),
        ("topics", f"[{','.join(topics)}]"),
    ]


def _publish(rng: random.Random) -> Fields:
    data = rng.choice(('{"type":"announce","from":"a"}', '{"type":"signal","to":"b"}', text(rng, "c" * 132), body(rng)))
    return [
        ("type", '"publish"'),
        ("topic", channel(rng)),
        ("data", data),
        *([("extra", body(rng))] * (rng.random() < 0.2)),
    ]


def _ping(_rng: random.Random) -> Fields:
    return [("type", '"ping"')]


def _join(rng: random.Random) -> Fields:
    return [("action", '"joinchannel"'), ("channel", channel(rng)), *_maybe(rng, "envelope", "true", "false")]


def _leave(rng: random.Random) -> Fields:
    return [("action", '"leavechannel"'), ("channel", channel(rng))]


def _send(rng: random.Random) -> Fields:
    return [
        ("action", '"sendmessage"'),
        *_maybe(rng, "channel", channel(rng), channel(rng), "null"),
        ("message", body(rng)),
        *_ack(rng),
    ]


def _room(rng: random.Random) -> Fields:
    return [("action", '"message"'), *_maybe(rng, "room", channel(rng), "null"), ("messageBody", body(rng)), *_ack(rng)]


def _everyone(rng: random.Random) -> Fields:
    return [("type", '"message"'), ("data", body(rng)), *_ack(rng)]


def _run(rng: random.Random) -> Fields:
    action = rng.choice(("chat", "chat", "join", "publish", "leave", "reply"))
    return [
        ("action", text(rng, action)),
        *_maybe(rng, "channel", channel(rng), "null"),
        ("message", body(rng)),
        *_ack(rng),
    ]


def _unknown(rng: random.Random) -> Fields:
    return [(rng.choice(("action", "type")), text(rng, rng.choice(ACTIONS))), ("channel", channel(rng))]


def _maybe(rng: random.Random, name: str, *values: str) -> Fields:
    return [(name, rng.choice(values))] if rng.random() < 0.6 else []


def _ack(rng: random.Random) -> Fields:
    return _maybe(rng, "ack", "true", "true", "false")


KINDS: Sequence[Callable[[random.Random], Fields]] = (
    *(_subscribe, _subscribe, _publish, _publish, _ping, _join, _join, _join, _leave, _send, _send, _room),
    *(_everyone, _run, _run, _unknown),
)


def frame(rng: random.Random, token: Callable[[], str]) -> str:
    """The text of a frame; `token` gives a token to authenticate with."""
    dice = rng.random()
    if dice < 0.03:
        return rng.choice(NO_JSON)
    if dice < 0.05:
        return odd(rng)
    authenticate = [("action", '"authenticate"'), ("token", text(rng, token()))]
    fields = authenticate if dice < 0.12 else rng.choice(KINDS)(rng)
    if rng.random() < 0.3:
        fields.append(("id", rng.choice(('"7"', text(rng, rng.choice(BODIES)), text(rng, "i" * 65), "7", "null"))))
    if rng.random() < 0.2:
        fields = _spoilt(rng, fields)
    whole = written(rng, fields)
    return mangled(rng, whole) if rng.random() < 0.1 else whole


def _spoilt(rng: random.Random, fields: Fields) -> Fields:
    """With a field missing, of another type, twice, or elsewhere; or with those of another kind."""
    place = rng.randrange(len(fields))
    name = fields[place][0]
    match rng.randrange(6):
        case 0:
            return fields[:place] + fields[place + 1 :]
        case 1 | 2:
            return [*fields[:place], (name, odd(rng)), *fields[place + 1 :]]
        case 3:
            return [*fields[:place], (name, odd(rng)), *fields[place:]]
        case 4:
            return rng.sample(fields, len(fields))
        case _:
            return fields + rng.choice(KINDS)(rng)


def mangled(rng: random.Random, whole: str) -> str:
    """The text after some accidents to its bytes, as whatever characters it then is."""
    data = bytearray(whole.encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice((1, 1, 2, 5))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 4, 40)))
        inserted = rng.choice(
            (b"", bytes([rng.randrange(256)]), bytes(data[start:end]) * 2, b'"', b"\\", b"{", b"null")
        )
        data[start:end] = inserted
    return bytes(data).decode("utf-8", rng.choice(("replace", "surrogateescape", "ignore")))
