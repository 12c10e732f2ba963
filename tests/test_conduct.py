"""Frames a second, and strikes, by a clock that moves only when told to."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.conduct import REMEMBERED, STRIKES_MS, Conduct
from chalicelib.errors import RateLimited
from chalicelib.model import ConnectionId

from .fakes import FakeClock

A, B = ConnectionId("a"), ConnectionId("b")

rates = st.integers(1, 50) | st.sampled_from([100, 333, 1_000])
moments = st.integers(0, 10**13) | st.integers(0, 2_000)


class Moved(FakeClock):
    """Time in milliseconds, which a test sets; the clock that it is read from has no fractions."""

    at = 0.0

    def now_ms(self) -> int:
        return int(self.at)


def taken(conduct: Conduct, connection_id: ConnectionId = A) -> bool:
    try:
        conduct.frame(connection_id)
    except RateLimited:
        return False
    return True


def conduct_at(at: float, per_second: int = 0, strikes: int = 3) -> tuple[Conduct, Moved]:
    clock = Moved()
    clock.at = at
    return Conduct(per_second, strikes, clock), clock


# --- frames a second


@settings(deadline=None)
@given(rates, st.lists(st.floats(0, 700) | st.just(0.0), max_size=300), moments)
def test_no_second_has_more_than_twice_the_rate(per_second: int, pauses: list[float], start: float) -> None:
    conduct, clock = conduct_at(start, per_second)
    accepted = []
    for pause in pauses:
        clock.at += pause
        if taken(conduct):
            accepted.append(clock.at)
    for end, moment in enumerate(accepted):
        assert end + 1 - bisect_left(accepted, moment - 1_000) <= 2 * per_second


@settings(deadline=None)
@given(rates, moments)
def test_a_seconds_worth_may_come_at_once_and_not_one_more(per_second: int, start: float) -> None:
    conduct, clock = conduct_at(start, per_second)
    assert [taken(conduct) for _ in range(per_second + 2)] == [True] * per_second + [False] * 2
    clock.at += 1_000
    assert [taken(conduct) for _ in range(per_second + 1)] == [True] * per_second + [False]


@settings(deadline=None)
@given(rates, st.lists(st.floats(0.001, 5_000), max_size=200), st.floats(0, 10**9))
def test_a_sender_below_the_rate_is_never_refused(per_second: int, extra: list[float], start: float) -> None:
    conduct, clock = conduct_at(start, per_second)
    for more in extra:
        assert taken(conduct)
        clock.at += 1_000 / per_second + more


@settings(deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(0, 999), max_size=20))
def test_the_same_frames_each_second_are_taken_where_they_are_no_more_than_the_rate(
    per_second: int, offsets: list[int]
) -> None:
    conduct, clock = conduct_at(0, per_second)
    for second in range(4):
        for offset in sorted(offsets[:per_second]):
            clock.at = second * 1_000 + offset
            assert taken(conduct)


def test_what_is_refused_does_not_count_against_the_sender() -> None:
    conduct, clock = conduct_at(0, per_second=1)
    assert taken(conduct)
    for _ in range(100):
        assert not taken(conduct)
    clock.at += 1_000
    assert taken(conduct)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    conduct, clock = conduct_at(10**12, per_second=1)
    assert taken(conduct)
    clock.at -= 3_600_000
    assert taken(conduct)
    assert not taken(conduct)


def test_without_a_limit_nothing_is_counted_or_remembered() -> None:
    conduct, _clock = conduct_at(0)
    assert all(taken(conduct) for _ in range(10_000))
    assert len(conduct._records) == 0


def test_one_connections_frames_are_not_anothers() -> None:
    conduct, _clock = conduct_at(0, per_second=2)
    assert [taken(conduct, A) for _ in range(3)] == [True, True, False]
    assert [taken(conduct, B) for _ in range(3)] == [True, True, False]


# --- strikes


def test_the_last_of_so_many_strikes_is_once_too_often_and_so_is_each_after_it() -> None:
    conduct, _clock = conduct_at(0, strikes=3)
    assert [conduct.strike(A) for _ in range(5)] == [False, False, True, True, True]
    assert not conduct.strike(B)


def test_one_strike_may_be_enough() -> None:
    conduct, _clock = conduct_at(0, strikes=1)
    assert conduct.strike(A)


@pytest.mark.parametrize("start", [0, 5, 10**9])
def test_a_strike_is_forgotten_after_a_minute(start: float) -> None:
    conduct, clock = conduct_at(start, strikes=2)
    for _ in range(20):
        assert not conduct.strike(A)
        clock.at += STRIKES_MS + 1


@settings(deadline=None)
@given(st.integers(1, 8), st.lists(st.integers(0, 40_000), max_size=60), st.integers(0, 10**9))
def test_so_many_strikes_within_any_minute_are_too_many_and_fewer_are_not(
    strikes: int, pauses: list[int], start: int
) -> None:
    conduct, clock = conduct_at(float(start), strikes=strikes)
    moments: list[float] = []
    for pause in pauses:
        clock.at += pause
        moments.append(clock.at)
        within = sum(moment >= clock.at - STRIKES_MS for moment in moments)
        assert conduct.strike(A) == (within >= strikes)


# --- memory


def test_so_many_connections_are_remembered_and_the_quietest_is_forgotten_first() -> None:
    conduct, _clock = conduct_at(0, per_second=1, strikes=2)
    assert taken(conduct, B)
    for number in range(REMEMBERED - 1):
        assert taken(conduct, ConnectionId(f"c{number}"))
    assert not taken(conduct, B)
    assert taken(conduct, ConnectionId("one more"))
    assert not taken(conduct, B)
    for number in range(REMEMBERED):
        conduct.strike(ConnectionId(f"d{number}"))
    assert len(conduct._records) == REMEMBERED
    assert taken(conduct, B)


def test_a_connection_remembers_no_more_strikes_than_count() -> None:
    conduct, _clock = conduct_at(0, strikes=4)
    for _ in range(1_000):
        conduct.strike(A)
    assert [len(record.strikes) for record in conduct._records.values()] == [4]
