"""Bugs put into the code by hand, each of which the machine is to find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import pytest

from chalicelib import broadcast, errors, fanout, rendezvous, service, store, table, transport
from chalicelib.broadcast import Broadcast, Delivery, Result
from chalicelib.errors import NoHomeChannel, NotWritten, PartlyDelivered, PostFailed, StoreError
from chalicelib.model import ChannelName, ConnectionId, KeyRange
from chalicelib.ranges import cut
from chalicelib.sender import Sender
from chalicelib.service import Service
from chalicelib.store import Store
from chalicelib.table import Table

Bug: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def lose_prunes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "prune", lambda *_arguments: None)


def prune_who_is_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "YOUNG_MS", 0)


def read_members_without_consistency(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(monkeypatch, "pages", ConsistentRead=lambda _consistent: False)


def repeat_what_may_have_been_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PostFailed", NotWritten)


def skip_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_deliveries(monkeypatch, lambda deliveries: (each for each in deliveries if not each.not_before))


def announce_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "announce_at", lambda *_arguments: 0)


def count_the_delay_of_an_announce_from_the_join(monkeypatch: pytest.MonkeyPatch) -> None:
    announce_at = rendezvous.announce_at
    monkeypatch.setattr(
        rendezvous, "announce_at", lambda sender, receiver, _now: announce_at(sender, receiver, receiver.joined_at)
    )


def delay_announces_by_half_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "ANNOUNCE_DELAY_MS", 1_500)


def delay_announces_by_a_third_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "ANNOUNCE_DELAY_MS", 900)


def announce_without_waiting_for_the_subscribe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "await_membership", lambda *_arguments: None)


def leave_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(monkeypatch, "delete", ConditionExpression=_without(" AND #at < :at"))


def leave_in_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(monkeypatch, "delete", ConditionExpression=_replace("#at < :at", "#at <= :at"))


def leave_no_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Store.put

    def put_all_but_tombstones(self: Store, **request: Any) -> bool:
        return "#at" in request.get("ExpressionAttributeNames", {}) or put(self, **request)

    monkeypatch.setattr(Store, "put", put_all_but_tombstones)


def keep_tombstones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TOMBSTONE_SECONDS", 90_000)


def keep_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CLAIM_SECONDS", 900_000)


def join_over_a_later_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(monkeypatch, "update", ConditionExpression=_without("attribute_not_exists(#at) OR #at <= :at"))


def say_that_a_superseded_join_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    join = Table.join
    monkeypatch.setattr(Table, "join", lambda self, *words, **named: join(self, *words, **named) or True)


def count_a_repeated_join_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(
        monkeypatch, "update", UpdateExpression=_replace("if_not_exists(joined_at, :joined_at)", ":joined_at")
    )


def ack_a_join_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    join = Table.join

    def join_or_not(self: Table, *words: Any, **named: Any) -> bool:
        try:
            return join(self, *words, **named)
        except StoreError:
            return True

    monkeypatch.setattr(Table, "join", join_or_not)


def end_a_home_membership_that_a_join_has_made_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(
        monkeypatch, "delete", ConditionExpression=_replace("attribute_exists(at_home)", "attribute_exists(channel)")
    )


def keep_subscribers_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "leave_home", lambda *_arguments: None)


def hand_on_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "position_of", lambda _last: None)


def hand_on_with_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "position_of", lambda _last: "ff$")


def cut_with_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(within: KeyRange, *more: Any) -> list[KeyRange]:
        first, *rest = cut(within, *more)
        return [first._replace(up_to=f"{int(first.up_to[:2], 16) - 8:02x}$"), *rest] if first.up_to else [first]  # type: ignore[arg-type]

    monkeypatch.setattr(fanout, "cut", cut_short)


def cut_with_an_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_long(*arguments: Any) -> list[KeyRange]:
        first, *rest = cut(*arguments)
        return [first._replace(up_to=None), *rest]

    monkeypatch.setattr(fanout, "cut", cut_long)


def claim_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "claim", lambda *_arguments: True)


def forget_whose_claim_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Table.claim

    def claim_as_if_alone(self: Table, *arguments: Any) -> bool:
        claim(self, *arguments)
        return True

    monkeypatch.setattr(Table, "claim", claim_as_if_alone)


def disconnect_by_the_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    _read_first_pages(monkeypatch, lambda query: "IndexName" in query)


def publish_to_the_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    _read_first_pages(monkeypatch, lambda query: "IndexName" not in query)


def read_the_first_page_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "KeyRange", lambda after=None, up_to=None: KeyRange(None, up_to))


def publish_to_the_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(monkeypatch, "pages", FilterExpression=_without(" AND expires_at > :now"))


def send_to_tombstones(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_requests(
        monkeypatch,
        "put",
        Item=lambda item: item | {"joined_at": item["at"], "dialect": {"S": "text"}} if "at" in item else item,
    )


def forget_what_was_left_unprocessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCH_ATTEMPTS", 1)
    write = Store._write

    def write_some(self: Store, requests: Iterable[Any]) -> int:
        try:
            return write(self, requests)
        except StoreError:
            return 0

    monkeypatch.setattr(Store, "_write", write_some)


def give_up_what_is_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "Throttled", PostFailed)


def repeat_a_410_and_never_prune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "YOUNG_MS", 10**9)


def send_to_the_sender_too(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Service.publish
    monkeypatch.setattr(
        Service,
        "publish",
        lambda self, one, *more: publish(self, type(one)(one.channel, one.body, one.dialect, True, one.ack), *more),
    )


def keep_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    keys_of = Table._keys_of

    def without_record(self: Table, name: ConnectionId) -> Iterator[Any]:
        return (key for key in keys_of(self, name) if not key["channel"]["S"].startswith("@connection#"))

    monkeypatch.setattr(Table, "_keys_of", without_record)


def tell_no_client_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = Service.reply
    monkeypatch.setattr(
        Service, "reply", lambda self, to, body: None if body.get("code") == "unavailable" else reply(self, to, body)
    )


def say_that_nothing_was_sent_where_some_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartlyDelivered, "code", "unavailable")


def say_that_some_was_sent_where_nothing_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "may_have_reached_some", True)


def tell_of_a_failure_without_the_request_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "to_frame", lambda error, frame_id, *_request_id: errors.to_frame(error, frame_id))


def say_that_it_has_no_home_where_its_token_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def home(self: Sender) -> ChannelName:
        if self.record is None or self.record.home is None:
            raise NoHomeChannel
        return self.record.home

    monkeypatch.setattr(Sender, "home", property(home))


def tell_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    reply_text = Service.reply_text

    def twice(self: Service, *arguments: Any) -> None:
        reply_text(self, *arguments)
        reply_text(self, *arguments)

    monkeypatch.setattr(Service, "reply_text", twice)


def remember_an_address_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Service.connect

    def remember(self: Service, event: Any) -> str | None:
        unknown, self._remembered = self._remembered is None, event.address
        if unknown:
            self.table.connect(event.connection_id, event.connected_at, None)
        return connect(self, event)

    monkeypatch.setattr(Service, "connect", remember)


def stamp_words_when_they_are_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("join", "leave"):
        _stamp(monkeypatch, name)


def join_for_longer_than_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    expiry = table._expiry
    monkeypatch.setattr(table, "_expiry", lambda connected_at, _until=None: expiry(connected_at))


def miscount(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge = Service._acknowledge

    def with_one_more(self: Service, result: Any, *more: Any) -> None:
        result.delivered += result.failed
        acknowledge(self, result, *more)

    monkeypatch.setattr(Service, "_acknowledge", with_one_more)


def _stamp(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    act, place = getattr(Table, name), {"join": 3, "leave": 2}[name]

    def act_now(self: Table, *words: Any, **named: Any) -> Any:
        return act(self, *words[:place], self._clock.now_ms(), *words[place + 1 :], **named)

    monkeypatch.setattr(Table, name, act_now)


def _change_requests(monkeypatch: pytest.MonkeyPatch, method: str, **changes: Callable[[Any], Any]) -> None:
    act = getattr(Store, method)

    def changed(self: Store, **request: Any) -> Any:
        made = {name: change(request[name]) for name, change in changes.items() if name in request}
        request = {name: value for name, value in (request | made).items() if value is not None}
        return act(self, **request)

    monkeypatch.setattr(Store, method, changed)


def _replace(old: str, new: str) -> Callable[[str], str | None]:
    return lambda expression: expression.replace(old, new) or None


def _without(part: str) -> Callable[[str], str | None]:
    return _replace(part, "")


def _read_first_pages(monkeypatch: pytest.MonkeyPatch, of: Callable[[Any], bool]) -> None:
    pages = Store.pages

    def first(self: Store, **query: Any) -> Iterator[Any]:
        for page in pages(self, **query):
            if not of(query):
                yield page
                continue
            yield {name: value for name, value in page.items() if name != "LastEvaluatedKey"}
            return

    monkeypatch.setattr(Store, "pages", first)


def _change_deliveries(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Iterable[Delivery]], Iterable[Delivery]]
) -> None:
    send = Broadcast.send
    monkeypatch.setattr(Broadcast, "send", lambda self, some, *more, **named: send(self, change(some), *more, **named))


BUGS: tuple[Bug, ...] = (
    lose_prunes,
    prune_who_is_connecting,
    read_members_without_consistency,
    repeat_what_may_have_been_delivered,
    skip_announces,
    announce_at_once,
    count_the_delay_of_an_announce_from_the_join,
    delay_announces_by_half_as_much,
    delay_announces_by_a_third_as_much,
    announce_without_waiting_for_the_subscribe,
    leave_whatever_is_there,
    leave_in_a_tie,
    leave_no_tombstone,
    keep_tombstones,
    keep_claims,
    join_over_a_later_leave,
    say_that_a_superseded_join_is_none,
    count_a_repeated_join_as_the_first,
    ack_a_join_that_failed,
    end_a_home_membership_that_a_join_has_made_its_own,
    keep_subscribers_at_home,
    hand_on_what_was_sent,
    hand_on_with_a_gap,
    cut_with_a_gap,
    cut_with_an_overlap,
    claim_nothing,
    forget_whose_claim_it_is,
    disconnect_by_the_first_page,
    publish_to_the_first_page,
    read_the_first_page_again,
    publish_to_the_expired,
    send_to_tombstones,
    forget_what_was_left_unprocessed,
    give_up_what_is_throttled,
    repeat_a_410_and_never_prune,
    send_to_the_sender_too,
    keep_the_record,
    tell_no_client_of_a_failure,
    say_that_nothing_was_sent_where_some_was,
    say_that_some_was_sent_where_nothing_was,
    tell_of_a_failure_without_the_request_id,
    say_that_it_has_no_home_where_its_token_has_ended,
    tell_twice,
    remember_an_address_before_it_is_written,
    stamp_words_when_they_are_handled,
    join_for_longer_than_the_token,
    miscount,
)
