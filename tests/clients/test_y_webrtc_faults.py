"""y-webrtc in Chromium while gateway and store fail as AWS's do: pages meet and converge each time.

y-webrtc repairs nothing by itself. So beside what its users see, every frame is judged: no signal may come twice, and
none may be lost but by the fault that was injected. The last tests show what becomes of y-webrtc where that is done to
it, and that the judge notices.

`make test` has each case once, `make test-long` ten times in a row. The number of a run is its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple
from uuid import uuid4

import pytest

from tests.faults import Rule, injected
from tests.server import Server, running_server

from .pages import Site, YWebrtcPage, assert_they_are_one, assert_they_meet
from .signals import assert_each_publish_came_once, doubled, missing

RUNS = 10

SCENARIOS: Mapping[str, Sequence[Rule]] = {
    "everything comes late": (
        {"at": "frame", "do": "delay", "ms": "300"},
        {"at": "delivery", "do": "delay", "ms": "300"},
    ),
    "frames overtake each other": ({"at": "frame", "do": "delay", "ms": "0-80"},),
    "frames overtake each other, and some come very late": (
        {"at": "frame", "do": "delay", "ms": "0-80"},
        {"at": "frame", "do": "delay", "ms": "1000-2000", "share": 0.02},
    ),
    "the store is slow and throttled": (
        {"at": "store", "do": "delay", "ms": "0-100"},
        {"at": "store", "do": "throttle", "share": 0.05},
    ),
    "deliveries are throttled, or answered 500 although they came": (
        {"at": "delivery", "do": "throttle", "share": 0.3},
        {"at": "delivery", "do": "forget", "share": 0.3},
    ),
    # Of two candidates y-webrtc can spare one; ours does not repeat what may have come.
    "a candidate is not delivered": (
        {"at": "delivery", "do": "fail", "match": '"candidate"', "share": 0.3, "times": 1},
    ),
}

SOCKETS_CUT: Sequence[Rule] = ({"at": "socket", "do": "cut", "ms": "5000"},)

NOISE_FAILS: Sequence[Rule] = ({"at": "frame", "do": "fail", "match": "noise"},)

PINGS_FAIL: Sequence[Rule] = ({"at": "frame", "do": "fail", "match": '"ping"'},)

ANSWERS_COME_TWICE: Sequence[Rule] = ({"at": "delivery", "do": "double", "match": '"answer"'},)

ANSWERS_ARE_LOST: Sequence[Rule] = ({"at": "delivery", "do": "drop", "match": '"answer"'},)


class Case(NamedTuple):
    """Which y-webrtc, in how many pages, and which run of it."""

    version: str
    pages: int
    run: int


def cases() -> Iterator[object]:
    """All there are; those that are left to `make test-long` are marked."""
    for case in map(Case._make, product(("10.3", "10.2"), (2, 3), range(RUNS + 1))):
        if case.run or case.version == "10.3":
            marks = pytest.mark.long if case.run else ()
            yield pytest.param(case, marks=marks, id=f"{case.version}, {case.pages} pages, run {case.run}")


in_each_case = pytest.mark.parametrize("case", list(cases()))


@pytest.fixture(scope="module")
def faulty() -> Iterator[Server]:
    """Our server as a y-webrtc deployment has it, with its faults open to control."""
    with running_server(env={"HOME_CHANNEL": "", "LOCALAWS_FAULTS": "{}"}) as server:
        yield server


@in_each_case
@pytest.mark.parametrize("rules", SCENARIOS.values(), ids=SCENARIOS)
def test_pages_that_come_at_once_meet_and_converge(
    site: Site, faulty: Server, rules: Sequence[Rule], case: Case
) -> None:
    with injected(faulty, rules, case.run) as faults, site.y_webrtc_pages(case.version, case.pages) as pages:
        assert_they_meet(pages, faulty.url)
        assert_each_publish_came_once(pages, faults)


@in_each_case
def test_a_page_meets_those_whose_sockets_were_cut_and_came_back(site: Site, faulty: Server, case: Case) -> None:
    room = f"room {uuid4()}"
    with injected(faulty, SOCKETS_CUT, case.run) as faults, site.y_webrtc_pages(case.version, case.pages) as pages:
        *early, late = pages
        for page in early:
            page.join(faulty.url, room)
        for page in early:
            page.wait_until_subscribed(sockets=2)
        late.join(faulty.url, room)
        assert_they_are_one(pages)
        assert_each_publish_came_once(pages, faults)


@in_each_case
def test_pages_meet_and_converge_among_api_gateways_error_frames(site: Site, faulty: Server, case: Case) -> None:
    with injected(faulty, NOISE_FAILS, case.run) as faults, site.y_webrtc_pages(case.version, case.pages) as pages:
        for page in pages:
            page.make_noise()
        assert_they_meet(pages, faulty.url)
        assert_each_publish_came_once(pages, faults)
        for page in pages:
            page.wait_to_receive('"Internal server error"', times=10)


def test_a_page_whose_ping_failed_reconnects_and_meets_who_comes_later(site: Site, faulty: Server) -> None:
    room = f"room {uuid4()}"
    with injected(faulty, PINGS_FAIL) as faults, site.y_webrtc_pages("10.3", 2) as (early, late):
        early.govern_time()
        early.join(faulty.url, room)
        early.wait_until_subscribed()
        early.skip(seconds=16)
        early.wait_to_receive('"Internal server error"')
        early.skip(seconds=60)
        early.wait_until_subscribed(sockets=2)
        late.join(faulty.url, room)
        assert_they_are_one([early, late])
        assert_each_publish_came_once([early, late], faults)


# What ours never does to y-webrtc, done to it: y-webrtc breaks, and the judge notices.


def test_a_page_to_which_an_answer_comes_twice_loses_its_peer(site: Site, faulty: Server) -> None:
    room = f"room {uuid4()}"
    with injected(faulty, ANSWERS_COME_TWICE), site.open("y-webrtc-10.3", 2, YWebrtcPage) as pages:
        for page in pages:
            page.join(faulty.url, room)
        pages[0].wait_for("doubled answers", lambda: bool(doubled(pages)))
        assert all('"answer"' in copy.publish for copy in doubled(pages))
        # Each announces itself once when it comes, and then each time that it has lost a peer.
        pages[0].wait_for("a lost peer", lambda: sum(len(page.sent('"announce"')) for page in pages) > len(pages))


def test_two_pages_between_which_an_answer_is_lost_never_meet(site: Site, faulty: Server) -> None:
    room = f"room {uuid4()}"
    with site.open("y-webrtc-10.3", 3, YWebrtcPage) as pages:
        *pair, late = pages
        with injected(faulty, ANSWERS_ARE_LOST) as faults:
            for page in pair:
                page.join(faulty.url, room)
            pair[0].wait_for("a lost answer", lambda: len(faults.hits()) == len(pair))
            pair[0].wait_for("all else", lambda: not missing(pair, faults.hits()))
            assert all('"answer"' in copy.publish for copy in missing(pair))
            assert missing(pair).total() == len(pair)
        late.join(faulty.url, room)
        late.wait_for_peers(2)
        for page in pair:
            page.wait_for_peers(1)
