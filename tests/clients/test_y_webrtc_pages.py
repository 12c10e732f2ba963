"""y-webrtc 10.3 and 10.2, unmodified, in Chromium: what its users see, behind our server and behind its own.

The pages of these tests join in turn, each once the one before is subscribed. Pages that join at the same moment are in
test_y_webrtc_rendezvous.py: of those with a password, two sometimes miss each other for good behind the reference
server, so there is nothing to compare.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import uuid4

import pytest
from websockets.sync.client import connect

from tests.server import Server

from .pages import Frame, Site, YWebrtcPage
from .plain_client import Client, close_connection

in_each_version = pytest.mark.parametrize("version", ["10.3", "10.2"])
by_two_and_by_five = pytest.mark.parametrize("count", [2, 5])
with_and_without_password = pytest.mark.parametrize("password", [None, "secret"], ids=["no password", "password"])


@in_each_version
@by_two_and_by_five
@with_and_without_password
def test_pages_converge_on_one_text(site: Site, signaling: str, version: str, count: int, password: str | None) -> None:
    with site.y_webrtc_pages(version, count) as pages:
        join_in_turn(pages, signaling, password)
        parts = [f"[page {number} was here]" for number in range(count)]
        for page, part in zip(pages, parts, strict=True):
            page.insert(part)
        for page in pages:
            page.wait_for_text_of(parts)
        assert len({page.text() for page in pages}) == 1


@in_each_version
@by_two_and_by_five
@with_and_without_password
def test_a_page_that_leaves_is_seen_by_the_others(
    site: Site, signaling: str, version: str, count: int, password: str | None
) -> None:
    with site.y_webrtc_pages(version, count) as pages:
        join_in_turn(pages, signaling, password)
        *others, leaver = pages
        leaver.leave()
        for page in others:
            page.wait_for_peers(count - 2)
        others[0].insert("still here")
        for page in others:
            page.wait_for_text_of(["still here"])
        assert leaver.text() == ""


@in_each_version
@by_two_and_by_five
@with_and_without_password
def test_a_late_joiner_gets_the_whole_text(
    site: Site, signaling: str, version: str, count: int, password: str | None
) -> None:
    with site.y_webrtc_pages(version, count) as pages:
        *early, late = pages
        room = join_in_turn(early, signaling, password)
        parts = [f"[page {number} was here]" for number in range(count - 1)]
        for page, part in zip(early, parts, strict=True):
            page.insert(part)
        for page in early:
            page.wait_for_text_of(parts)

        late.join(signaling, room, password)
        late.wait_for_text_of(parts)
        assert late.text() == early[0].text()


def test_pages_of_different_rooms_do_not_hear_of_each_other(site: Site, signaling: str) -> None:
    with site.y_webrtc_pages("10.3", 4) as pages:
        rooms = {join_in_turn(pages[:2], signaling): pages[:2], join_in_turn(pages[2:], signaling): pages[2:]}
        for room, (writer, reader) in rooms.items():
            writer.insert(room)
            reader.wait_for_text_of([room])
        for room, members in rooms.items():
            for page in members:
                assert page.text() == room
                assert {json.loads(text)["topic"] for text in page.received()} == {room}


def test_a_page_whose_connection_is_closed_comes_back_and_meets_who_comes_later(site: Site, homeless: Server) -> None:
    room = f"room {uuid4()}"
    with connect(homeless.url) as connection, site.y_webrtc_pages("10.3", 2) as (early, late):
        listener = Client(connection)
        listener.join(room, envelope=True)  # an envelope tells the connection that an announce came from
        early.join(homeless.url, room)
        first = listener.json()
        close_connection(homeless, first["from"])
        second = listener.json()
        assert second["from"] != first["from"]
        assert second["message"] == first["message"]

        late.join(homeless.url, room)
        late.insert("hello")
        early.wait_for_text_of(["hello"])


@in_each_version
def test_two_pages_signal_as_they_do_behind_the_reference_server(
    site: Site, homeless: Server, reference: str, version: str
) -> None:
    assert signals_of_two_pages(site, homeless.url, version) == signals_of_two_pages(site, reference, version)


def signals_of_two_pages(site: Site, signaling: str, version: str) -> list[Counter[tuple[str, str, int | None]]]:
    """For each page, how often it sent and received what kind of signal, and with how many `clients`.

    ICE candidates are left out: how many there are depends on the machine, and when both sides stop on the clock.
    """
    with site.y_webrtc_pages(version, 2) as pages:
        join_in_turn(pages, signaling)
        for page in pages:
            for kind in ("announce", "offer", "answer"):
                page.wait_to_receive(f'"{kind}"')
        return [Counter(kinds_of_signals(page.frames)) for page in pages]


def kinds_of_signals(frames: Iterable[Frame]) -> Iterable[tuple[str, str, int | None]]:
    for frame in frames:
        fields = json.loads(frame.text)
        data = fields.get("data", {})
        kind = data.get("signal", {}).get("type") or data.get("type") or fields["type"]
        if kind != "candidate":
            yield frame.direction, kind, fields.get("clients")


def join_in_turn(pages: Sequence[YWebrtcPage], signaling: str, password: str | None = None) -> str:
    """Lets pages join one new room, each once the one before is subscribed, and waits until all have met."""
    room = f"room {uuid4()}"
    for page in pages:
        page.join(signaling, room, password)
        page.wait_until_subscribed()
    for page in pages:
        page.wait_for_peers(len(pages) - 1)
    return room
