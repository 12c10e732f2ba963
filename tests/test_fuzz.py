"""The short form of `make fuzz`: a few rounds of generated frames and handshakes, and that what they look for is found.

tests/fuzz says how a round goes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import capability, service
from chalicelib.auth import Gate
from chalicelib.dialects.frame import Frame
from chalicelib.errors import Forbidden
from chalicelib.events import Connect
from chalicelib.identity import Identity
from chalicelib.model import ChannelName
from chalicelib.sender import Sender
from chalicelib.service import Service

from .fuzz import __main__ as fuzz
from .fuzz.generators import STEPS, steps_of
from .fuzz.rounds import Finding, play
from .fuzz.store import Item, Key, MemoryStore
from .fuzz.tally import Tally
from .schedules import TABLE, make_table, request_in_process

FIRST_SEED = 1
FOUND_WITHIN = 40 * STEPS


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 12))
def test_no_event_raises_anything_or_comes_to_what_the_rights_do_not_allow(seed: int) -> None:
    finding = play(seed, Tally())
    assert finding is None, str(finding)


class RealStore(MemoryStore):
    """The same look into a table of ministack's, in this process."""

    def __init__(self) -> None:
        super().__init__()
        make_table()

    def peek(self, key: Key) -> Item | None:
        named = {"channel": {"S": key[0]}, "member": {"S": key[1]}}
        item: Item | None = request_in_process("GetItem", {"TableName": TABLE, "Key": named}).get("Item")
        return item

    def everything(self) -> Iterator[tuple[Key, Item]]:
        for item in request_in_process("Scan", {"TableName": TABLE})["Items"]:
            yield (item["channel"]["S"], item["member"]["S"]), item

    def get_item(self, **request: Any) -> Any:
        return request_in_process("GetItem", request)

    def query(self, **request: Any) -> Any:
        return request_in_process("Query", request)

    def put_item(self, **request: Any) -> Any:
        return self._write("PutItem", request, request["Item"])

    def update_item(self, **request: Any) -> Any:
        return self._write("UpdateItem", request, request["Key"])

    def delete_item(self, **request: Any) -> Any:
        return self._write("DeleteItem", request, request["Key"])

    def batch_write_item(self, **request: Any) -> Any:
        keys = [
            (write.get("PutRequest") or write["DeleteRequest"]).get(part)
            for write in request["RequestItems"][TABLE]
            for part in ("Item", "Key")
        ]
        return self._write("BatchWriteItem", request, *filter(None, keys))

    def _write(self, operation: str, request: dict[str, Any], *items: Item) -> Any:
        answer = request_in_process(operation, request)
        self.touched |= {(item["channel"]["S"], item["member"]["S"]) for item in items}
        return answer


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 3))
def test_a_real_store_comes_to_the_same_as_the_one_in_memory(seed: int) -> None:
    of_memory, of_real = Tally(), Tally()
    finding = play(seed, of_real, RealStore)
    assert finding is None, str(finding)
    play(seed, of_memory)
    assert of_real == of_memory


def test_a_seed_brings_back_the_same_events() -> None:
    assert steps_of(7)[1] == steps_of(7)[1]
    assert len({tuple(step.at for step in steps_of(seed)[1]) for seed in range(5)}) == 5


def test_what_no_event_has_reached_is_missing() -> None:
    tally = Tally()
    everything = {"status 401", "status 403", "dialect ywebrtc", "command Authenticate", "code forbidden", "a delivery"}
    assert everything <= set(tally.missing())
    for seed in range(FIRST_SEED, FIRST_SEED + 12):
        play(seed, tally)
    assert not {"status 401", "status 403", "code forbidden", "a delivery"} & set(tally.missing())


# What the rounds look for is found: each of these, broken, is missed.


def found() -> Finding:
    tally = Tally()
    for seed in range(FIRST_SEED, FIRST_SEED + FOUND_WITHIN // STEPS):
        if finding := play(seed, tally):
            return finding
    pytest.fail(f"nothing found in {tally.events} events")


def publish_without_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    require = Sender.require
    monkeypatch.setattr(
        Sender, "require", lambda self, operation, channel: operation == "publish" or require(self, operation, channel)
    )


def join_without_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    may = Sender.may
    monkeypatch.setattr(
        Sender, "may", lambda self, operation, channel: operation == "subscribe" or may(self, operation, channel)
    )


def match_the_beginning_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def matches(self: capability._Pattern, name: list[str]) -> bool:
        return ":".join(name).startswith(":".join(self.segments))

    monkeypatch.setattr(capability._Pattern, "matches", matches)


def forget_that_tokens_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sender, "expires_at", property(lambda self: self.record and self.record.expires_at))


def let_anyone_be_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    home_for = Service._home_for
    monkeypatch.setattr(Service, "_home_for", lambda self, event, _identity: home_for(self, event, None))


def take_anyones_token(monkeypatch: pytest.MonkeyPatch) -> None:
    authenticate = Service.authenticate

    def of_anyone(self: Service, token: str, sender: Sender) -> int | None:
        identity = self._gate.renew(token)
        if sender.record is not None and identity is not None:
            sender.record = replace(sender.record, principal=identity.principal)
        return authenticate(self, token, sender)

    monkeypatch.setattr(Service, "authenticate", of_anyone)


def tell_who_came_last(monkeypatch: pytest.MonkeyPatch) -> None:
    admit, last = Gate.admit, [""]

    def remember(self: Gate, event: Connect) -> tuple[Identity | None, str | None]:
        identity, subprotocol = admit(self, event)
        last[0] = last[0] if identity is None else identity.principal
        return identity, subprotocol

    monkeypatch.setattr(Gate, "admit", remember)
    monkeypatch.setattr(Forbidden, "__str__", lambda self: f"{self.channel} is for {last[0]}.")


def log_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    renew = Gate.renew

    def tell(self: Gate, token: str) -> Identity | None:
        logging.getLogger("channels.auth").info("renewing %s", token)
        return renew(self, token)

    monkeypatch.setattr(Gate, "renew", tell)


def log_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    join = service.Service.join

    def tell(self: Service, channels: tuple[ChannelName, ...], *more: Any, **named: Any) -> None:
        logging.getLogger("channels.service").info("joining %s", channels[0] if channels else "")
        join(self, channels, *more, **named)

    monkeypatch.setattr(Service, "join", tell)


def trip_over_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    flag = Frame.flag
    monkeypatch.setattr(Frame, "flag", lambda self, name: hash(self.fields.get(name)) and flag(self, name))


@pytest.mark.parametrize(
    ("sabotage", "checks"),
    [
        (publish_without_the_right, "refusal"),
        (join_without_the_right, "refusal table"),
        (match_the_beginning_of_a_name, "handshake refusal table"),
        (forget_that_tokens_end, "refusal"),
        (let_anyone_be_at_home, "handshake table"),
        (take_anyones_token, "refusal"),
        (tell_who_came_last, "leak"),
        (log_the_token, "secret"),
        (log_a_name_as_it_is, "log"),
        (trip_over_a_list, "log"),
    ],
)
def test_it_is_found_when_the_server_would(sabotage: Any, checks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(monkeypatch)
    finding = found()
    assert finding.failure.check in checks.split()
    assert len(finding.steps) <= 5


def test_what_fails_ends_the_run_with_its_seed_and_the_events_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUZZ", str(STEPS))
    monkeypatch.setenv("SEED", str(FIRST_SEED))
    assert fuzz.main() == 0
    assert "handshakes" in capsys.readouterr().out
    monkeypatch.setattr(Sender, "may", lambda _self, _operation, _channel: True)
    monkeypatch.setenv("FUZZ", str(FOUND_WITHIN))
    assert fuzz.main() == 1
    told = capsys.readouterr().out
    assert "SEED=" in told
    assert "refusal: " in told
