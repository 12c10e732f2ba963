"""y-webrtc pages that come at the same moment, while the server handles their frames in any order.

Two and three pages without a password are in test_y_webrtc_faults.py, among much else that can happen to them.
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

from .pages import Site, YWebrtcPage, assert_they_meet

RUNS = [0, 1, 2, *(pytest.param(run, marks=pytest.mark.long) for run in range(3, 13))]


@pytest.mark.parametrize("run", RUNS)
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
