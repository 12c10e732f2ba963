"""A small history made by hand, with which the tests of the account begin, and the faults that they put in."""

from __future__ import annotations

import json
from math import inf
from typing import Any

from localaws.faults import Hit

from .accounts import Verdict, judge
from .history import TEXT, Connection, History, Message, Stay, mark
from .ledger import Ledger

ANN, BEN, CAT = "ann", "ben", "cat"


class Story:
    """A history in the channel `news`: Ann sends, Ben and Cat are members from 1 on, Ann is not one."""

    def __init__(self) -> None:
        self.history = History()
        self.ann, self.ben, self.cat = (self.connection(name) for name in (ANN, BEN, CAT))
        for member in (self.ben, self.cat):
            self.joined(member, 0, 1)

    def connection(self, name: str) -> Connection:
        connection = self.history.connecting()
        connection.id = name
        return connection

    def joined(self, connection: Connection, asked_at: float, joined_at: float, form: str = TEXT) -> Stay:
        stay = connection.joining("news", form, asked_at)
        stay.joined_at = joined_at
        return stay

    def sends(
        self, number: int = 7, at: float = 10, answered_at: float = 11, code: str | None = None, **more: Any
    ) -> Message:
        message = Message(number, "news", f"{mark(number)} hello", self.ann, sent_at=at, **more)
        self.history.published(message)
        if answered_at < inf:
            self.history.answered(number, answered_at, code)
        if code is not None:
            self.history.codes[code] += 1
        return message

    def gets(self, *connections: Connection, number: int = 7) -> None:
        for connection in connections:
            self.history.received(connection, self.history.messages[number].body)

    def verdict(self, *hits: Hit) -> Verdict:
        return judge(self.history, Ledger(hits))


def hit(at: str, do: str, connection: str | None = None, detail: str = "") -> Hit:
    """Of whatever rule."""
    return Hit(0, 0, at, do, connection, detail)


def delivery(do: str, connection: str = BEN, number: int = 7) -> Hit:
    return hit("delivery", do, connection, f"{mark(number)} hello")


def answer(do: str, kind: str = "ack", number: int = 7) -> Hit:
    return hit("delivery", do, ANN, json.dumps({"type": kind, "id": mark(number)}, separators=(",", ":")))
