from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.pacing import BURST_MS, THROTTLED_LEAST, WINDOW_MOST_MS, WINDOW_MS, WINDOW_POSTS, Pacer

from .fakes import FakeClock


class FineClock(FakeClock):
    """Sleeps to the microsecond, as threads that share a rate of thousands a second do together."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def elapsed_ms(self) -> float:
        return self.elapsed

    def sleep(self, milliseconds: float) -> None:
        self.elapsed += max(0.0, milliseconds)


class Quota:
    """API Gateway's token bucket: 429 for what is beyond it."""

    def __init__(self, clock: FineClock, rate: float, burst: float) -> None:
        self.clock, self.rate, self.burst = clock, rate, burst
        self.tokens, self.at = burst, clock.elapsed_ms()

    def accepts(self) -> bool:
        now = self.clock.elapsed_ms()
        self.tokens = min(self.burst, self.tokens + (now - self.at) / 1_000 * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def post(pacer: Pacer, clock: FineClock, rate: float, number: int, accepts: Callable[[], bool]) -> int:
    """Posts that often, each when it may; returns how many were answered 429."""
    refused = 0
    for _ in range(number):
        clock.sleep(pacer.reserve(rate))
        if not accepts():
            refused += 1
            pacer.throttled()
    return refused


@given(st.integers(1, 50_000), st.lists(st.floats(0, 3_000), max_size=60))
def test_in_any_span_of_time_no_more_is_posted_than_the_burst_and_the_rate_allow(
    rate: int, pauses: list[float]
) -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    posted: list[float] = []
    for pause in [*pauses, *([0.0] * 200)]:
        clock.sleep(pause)
        clock.sleep(pacer.reserve(rate))
        posted.append(clock.elapsed_ms())
    for first in range(0, len(posted), 7):
        for last in range(first, len(posted), 7):
            span = posted[last] - posted[first]
            assert last - first <= rate * (span + BURST_MS) / 1_000 + 1.001


def test_after_a_rest_a_burst_goes_out_at_once_and_then_the_rate_holds() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    waits = [pacer.reserve(8_000) for _ in range(4_001)]
    assert all(wait <= 0 for wait in waits[:4_000])
    assert waits[4_000] > 0
    clock.elapsed = 60_000
    assert pacer.reserve(8_000) <= 0


def test_what_goes_on_where_another_stopped_has_no_burst() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    pacer.forgo_burst()
    assert [round(pacer.reserve(1_000)) for _ in range(3)] == [1, 2, 3]
    clock.elapsed = 60_000
    assert pacer.reserve(1_000) <= 0


def test_a_rate_at_the_quota_is_never_refused() -> None:
    clock = FineClock()
    quota = Quota(clock, rate=2_500, burst=1_251)  # one more: these clocks add up fractions
    assert post(Pacer(clock), clock, 2_500, 20_000, quota.accepts) == 0


@pytest.mark.parametrize("excess", [1.25, 2, 8])
def test_where_the_quota_refuses_more_than_a_hundredth_the_pace_comes_down_to_what_it_lets_through(
    excess: float,
) -> None:
    clock = FineClock()
    quota = Quota(clock, rate=2_000, burst=1_000)
    pacer = Pacer(clock)
    post(pacer, clock, 2_000 * excess, 20_000, quota.accepts)
    assert pacer.slowed
    before = clock.elapsed_ms()
    refused = post(pacer, clock, 2_000 * excess, 20_000, quota.accepts)
    accepted_a_second = (20_000 - refused) / (clock.elapsed_ms() - before) * 1_000
    assert refused < 20_000 * 0.06
    assert accepted_a_second > 2_000 * 0.95


def test_a_few_slow_clients_slow_nobody() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    answers = iter(range(1_000_000))
    post(pacer, clock, 8_000, 20_000, lambda: next(answers) % 101 != 0)
    assert not pacer.slowed


def test_a_handful_of_refusals_is_no_quota_however_few_the_posts_are() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    answers = iter([False] * THROTTLED_LEAST + [True] * WINDOW_POSTS * 4)
    post(pacer, clock, 10, WINDOW_POSTS * 4, lambda: next(answers))
    assert not pacer.slowed


@given(st.lists(st.floats(200, 5_000), min_size=50, max_size=200), st.integers(1, 90))
def test_one_full_client_of_a_small_room_slows_nobody_however_often_it_is_tried(pauses: list[float], room: int) -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    for pause in pauses:
        post(pacer, clock, 8_000, room, lambda: True)
        post(pacer, clock, 8_000, 2, lambda: False)
        clock.sleep(pause)
    assert not pacer.slowed


def test_what_was_refused_before_a_rest_says_nothing_after_it() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    post(pacer, clock, 500, WINDOW_POSTS - 1, lambda: False)
    clock.sleep(WINDOW_MOST_MS)
    assert pacer.reserve(500) <= 0
    assert not pacer.slowed


def test_a_rest_ends_a_squeeze() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    post(pacer, clock, 500, WINDOW_POSTS * 5, lambda: False)
    assert pacer.slowed
    clock.sleep(3_600_000)
    post(pacer, clock, 500, 1, lambda: True)
    assert not pacer.slowed


def test_a_slowed_pace_has_no_burst_and_comes_back_to_the_rate_once_nothing_is_refused() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    post(pacer, clock, 1_000, 1_000, lambda: False)
    assert pacer.slowed
    clock.sleep(10_000)
    pacer.reserve(1_000)
    assert pacer.reserve(1_000) > 0
    post(pacer, clock, 1_000, 60_000, lambda: True)
    assert not pacer.slowed
    before = clock.elapsed_ms()
    post(pacer, clock, 1_000, 1_000, lambda: True)
    assert clock.elapsed_ms() - before <= 1_000.1


def test_time_without_posts_counts_for_the_recovery() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    answers = iter([False] * 60 + [True] * 140)
    post(pacer, clock, 100, WINDOW_POSTS, lambda: next(answers))
    assert pacer.slowed
    clock.sleep(WINDOW_MS * 100)
    post(pacer, clock, 100, WINDOW_POSTS, lambda: next(answers))
    assert not pacer.slowed


def test_a_quiet_year_is_no_more_than_a_recovery() -> None:
    clock = FineClock()
    pacer = Pacer(clock)
    post(pacer, clock, 1_000, WINDOW_POSTS - 1, lambda: True)
    clock.sleep(365 * 86_400_000)
    post(pacer, clock, 1_000, WINDOW_POSTS, lambda: True)
    assert not pacer.slowed
