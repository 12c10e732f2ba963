"""How much the account lets one fault explain, on small histories made by hand: each fault too few is found."""

from __future__ import annotations

from math import inf

import pytest

from chalicelib.transport import ANSWER_SECONDS
from localaws.faults import Hit

from .soak import accounts
from .soak.history import Message
from .soak.story import ANN, BEN, Story, delivery, hit

STORE = hit("store", "fail", None, "Query")
KILL = hit("invocation", "kill", ANN, "channels-dev-websocket_message")
BACKEND_KILL = hit("invocation", "kill", None, "channels-dev-publish")


@pytest.fixture(name="story")
def a_story() -> Story:
    return Story()


@pytest.mark.parametrize("code", ["unavailable", "partly_delivered"])
def test_errors_of_aws_without_any_fault_are_found(story: Story, code: str) -> None:
    for number in range(1_000):
        story.sends(number, code=code)
    assert story.verdict().broken == {accounts.CODE: [f"{code}, 1000 times, and 0 faults that may bring it about"]}


@pytest.mark.parametrize("do", ["fail", "throttle", "forget", "unprocessed", "down"])
@pytest.mark.parametrize("code", ["unavailable", "partly_delivered"])
def test_a_failure_of_the_store_explains_one_error_and_no_more(story: Story, code: str, do: str) -> None:
    failed = hit("store", do, None, "Query")
    story.history.codes[code] = 2
    assert not story.verdict(failed, failed).broken
    assert story.verdict(failed).times == {accounts.CODE: 1}


@pytest.mark.parametrize(
    ("fault", "unavailable", "partly"),
    [
        (hit("store", "delay", None, "Query"), False, False),
        (delivery("delay"), False, False),
        (delivery("drop"), False, False),
        (delivery("double"), False, False),
        (hit("frame", "fail", ANN, "Marko?"), False, False),
        (KILL, False, False),
        (delivery("fail"), False, True),
        (delivery("forget"), False, True),
        (delivery("throttle"), False, True),
        (hit("socket", "freeze", BEN), False, True),
        (hit("socket", "cut", BEN), False, True),
    ],
)
def test_no_other_fault_explains_that_the_store_failed_and_few_that_a_broadcast_ended_early(
    story: Story, fault: Hit, unavailable: bool, partly: bool
) -> None:
    for code, explained in (("unavailable", unavailable), ("partly_delivered", partly)):
        story.history.codes.clear()
        story.history.codes[code] = 1
        assert (accounts.CODE not in story.verdict(fault).times) is explained


def test_a_killed_invocation_explains_what_its_sender_was_not_told_of(story: Story) -> None:
    story.sends(answered_at=inf)
    story.gets(story.cat)
    assert story.verdict(KILL).lost == {"invocation killed": 1}
    assert not story.verdict(KILL).broken
    assert set(story.verdict(BACKEND_KILL).broken) == {accounts.UNEXPLAINED, accounts.UNANSWERED}
    story.history.answered(7, 12, None)
    assert story.verdict(KILL).times == {accounts.UNEXPLAINED: 1}


def test_a_kill_stands_for_one_message_and_all_that_came_of_it(story: Story) -> None:
    for number in range(3):
        story.sends(number, answered_at=inf)
    assert not story.verdict(KILL, KILL, KILL).broken
    verdict = story.verdict(KILL, KILL)
    assert verdict.lost["invocation killed"] == 4
    assert verdict.times == {accounts.UNEXPLAINED: 2, accounts.UNANSWERED: 1}


def test_so_does_a_kill_of_a_backends(story: Story) -> None:
    for number in range(2):
        story.history.published(Message(number, "news", f"~{number}~", None, sent_at=10))
    assert not story.verdict(BACKEND_KILL, BACKEND_KILL).broken
    assert story.verdict(BACKEND_KILL).times == {accounts.UNEXPLAINED: 2, accounts.UNANSWERED: 1}
    assert story.verdict(KILL, KILL).times == {accounts.UNEXPLAINED: 4, accounts.UNANSWERED: 2}


def test_a_kill_is_not_spent_on_what_has_another_cause(story: Story) -> None:
    for number in range(2):
        story.sends(number, answered_at=inf)
        story.gets(story.cat, number=number)
    never_ran = hit("frame", "fail", ANN, "~0~")
    lost = delivery("drop", number=0)
    assert story.verdict(never_ran, lost, KILL).lost == {"delivery dropped": 1, "invocation killed": 1}
    assert not story.verdict(never_ran, lost, KILL).broken


def test_posts_that_hung_until_their_time_was_up_are_lost_as_often_as_the_ack_says(story: Story) -> None:
    told = {"delivered": 0, "failed": 1}
    story.sends(answered_at=inf)
    story.history.answered(7, 10 + ANSWER_SECONDS, None, told)
    verdict = story.verdict()
    assert verdict.lost == {"post given up, sender told": 1, accounts.UNEXPLAINED: 1}
    story.history.messages[7].given_up = 2
    assert story.verdict().lost == {"post given up, sender told": 2}
    assert not story.verdict().broken


def test_a_post_that_is_given_up_at_once_is_lost_without_a_cause(story: Story) -> None:
    story.sends(answered_at=inf)
    story.history.answered(7, 9.9 + ANSWER_SECONDS, None, {"failed": 2})
    assert story.verdict().times == {accounts.UNEXPLAINED: 2}


@pytest.mark.parametrize("do", ["fail", "forget"])
def test_posts_that_a_fault_failed_are_among_those_that_the_ack_tells_of(story: Story, do: str) -> None:
    story.sends(answered_at=inf)
    story.history.answered(7, 10 + ANSWER_SECONDS, None, {"failed": 1})
    story.gets(story.cat)
    assert story.verdict(delivery(do, "dan")).times == {accounts.UNEXPLAINED: 1}
    assert not story.verdict(delivery(do, "dan", number=8)).broken


@pytest.mark.parametrize("name", ["not_open", "throttled", "stale", "delivered"])
def test_what_else_an_ack_tells_of_explains_nothing(story: Story, name: str) -> None:
    story.sends(answered_at=inf)
    story.history.answered(7, 10 + ANSWER_SECONDS, None, {name: 2})
    assert story.verdict().times == {accounts.UNEXPLAINED: 2}
