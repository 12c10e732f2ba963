"""Two y-webrtc pages that come at the same moment, while the server handles their frames in any order.

Two, never three: with three, Yjs relays through the third and hides a pair that never met. And data both ways, not
"connected": a pair that glared reports that it is connected, and nothing ever flows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from websockets.sync.client import connect

from tests.server import Server

from .pages import Site, YWebrtcPage

RUNS = 20
RUNS_WITH_PASSWORD = 5


@pytest.mark.parametrize("run", range(RUNS))
def test_two_pages_meet_although_their_frames_overtake_each_other(site: Site, shuffling: Server, run: int) -> None:
    with site.y_webrtc_pages("10.3", 2) as pages:
        assert_they_meet(pages, shuffling.url)


@pytest.mark.parametrize("run", range(RUNS_WITH_PASSWORD))
def test_two_pages_with_a_password_meet_although_their_frames_overtake_each_other(
    site: Site, shuffling: Server, run: int
) -> None:
    with site.y_webrtc_pages("10.3", 2) as pages:
        assert_they_meet(pages, shuffling.url, "secret")


def test_five_pages_that_come_at_once_all_meet_each_other(site: Site, shuffling: Server) -> None:
    with site.y_webrtc_pages("10.3", 5) as pages:
        assert_they_meet(pages, shuffling.url)


@pytest.mark.parametrize("password", [None, "secret"], ids=["no password", "password"])
def test_raw_text_of_the_home_channel_never_reaches_a_page_that_has_subscribed(
    site: Site, channels: Server, password: str | None
) -> None:
    room = f"room {uuid4()}"
    with chatter(channels.url) as said, site.open("y-webrtc-10.3", 2, YWebrtcPage) as pages:
        for page in pages:
            page.join(channels.url, room, password)
        for page in pages:
            page.wait_until_subscribed()
        said_before_that = said.count
        for number, page in enumerate(pages):
            page.insert(f"[page {number}]")
        for page in pages:
            page.wait_for_text_of(["[page 0]", "[page 1]"])
        said.wait_for(said_before_that + 50)

        for page in pages:
            raw = [int(text.removeprefix("chatter ")) for text in page.received() if text.startswith("chatter ")]
            assert [number for number in raw if number > said_before_that] == []
            # y-webrtc throws on each raw text. Those from before the subscribe are all that it may have thrown on.
            assert len(page.errors) == len(raw), page.errors


def assert_they_meet(pages: list[YWebrtcPage], signaling: str, password: str | None = None) -> None:
    """Lets pages join one room at the same moment, and asserts that what each writes then reaches all."""
    room = f"room {uuid4()}"
    for page in pages:
        page.join(signaling, room, password)
    for page in pages:
        page.wait_for_peers(len(pages) - 1)
    parts = [f"[page {number}]" for number in range(len(pages))]
    for page, part in zip(pages, parts, strict=True):
        page.insert(part)
    for page in pages:
        page.wait_for_text_of(parts)


class Chatter:
    """Counts what is said to the home channel: `count` is the number of the text that is being sent, or was last."""

    def __init__(self) -> None:
        self.count = 0
        self._more = threading.Condition()

    def says(self, count: int) -> None:
        with self._more:
            self.count = count
            self._more.notify_all()

    def wait_for(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self.count >= count, timeout=30), f"only {self.count} of {count}"


@contextmanager
def chatter(url: str) -> Iterator[Chatter]:
    """Keeps the home channel busy from a thread of its own."""
    said = Chatter()
    stop = threading.Event()

    def talk() -> None:
        with connect(url) as socket:
            number = 0
            while not stop.is_set():
                number += 1
                said.says(number)
                socket.send(json.dumps({"type": "message", "data": f"chatter {number}"}))
                while socket.recv(timeout=30) != f"chatter {number}":
                    pass

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        said.wait_for(2)
        yield said
    finally:
        stop.set()
        thread.join()

tries = []
@pytest.mark.parametrize("always", [True, False])
def test_tmp(site: Site, reference: str, always: bool) -> None:
    tries.append(1)
    with site.y_webrtc_pages("10.3", 2) as pages:
        assert_they_meet(pages, reference)
        if always or len(tries) == 3:
            pages[1].page.evaluate("Object.defineProperty(RTCDataChannel.prototype,'readyState',{get:()=>'connecting'})")
            assert 0, "glare"
    print("fine after", len(tries))
def test_tmp2(site: Site, reference: str) -> None:
    tries.append(1)
    with site.y_webrtc_pages("10.3", 2) as pages:
        assert_they_meet(pages, reference)
        assert 0, f"not stuck {len(tries)}"
