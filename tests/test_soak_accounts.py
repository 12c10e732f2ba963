"""The soak's account of messages, on small histories made by hand: each way to break a rule is found, each cause of a
loss is known, and what is left open is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localaws.faults import Hit

from .soak import accounts
from .soak.accounts import judge
from .soak.history import ENVELOPE, TEXT, YWEBRTC, mark
from .soak.ledger import Ledger
from .soak.story import ANN, BEN, CAT, Story, answer, delivery, hit


@pytest.fixture(name="story")
def a_story() -> Story:
    return Story()


def test_what_all_members_have_once_breaks_nothing(story: Story) -> None:
    story.sends()
    story.gets(story.ben, story.cat)
    verdict = story.verdict()
    assert (verdict.due, verdict.made, verdict.broken) == (2, 2, {})


def test_what_a_member_does_not_have_is_lost_without_a_cause(story: Story) -> None:
    story.sends()
    story.gets(story.cat)
    verdict = story.verdict()
    assert verdict.times == {accounts.UNEXPLAINED: 1}
    assert "message 7 of connection ann in news (acked, 0 posts given up) to connection ben" in str(verdict.broken)


@pytest.mark.parametrize(
    ("hits", "cause"),
    [
        ([delivery("drop")], "delivery dropped"),
        ([delivery("fail")], "post answered 500"),
        ([delivery("throttle"), delivery("throttle")], "post answered 429 again and again"),
        ([hit("socket", "freeze", BEN)], "socket frozen or cut"),
        ([hit("socket", "cut", BEN)], "socket frozen or cut"),
    ],
)
def test_a_fault_on_the_way_to_one_member_explains_its_loss(story: Story, hits: list[Hit], cause: str) -> None:
    story.sends()
    story.gets(story.cat)
    verdict = story.verdict(*hits)
    assert verdict.lost == {cause: 1}
    assert not verdict.broken


@pytest.mark.parametrize(
    "hits",
    [
        [delivery("delay")],
        [delivery("double")],
        [delivery("forget")],
        [delivery("throttle")],
        [delivery("drop", CAT)],
        [delivery("drop", number=8)],
        [hit("socket", "cut", CAT)],
        [hit("frame", "delay", ANN, f"{mark(7)} hello")],
        [hit("frame", "fail", ANN, f"{mark(7)} hello")],
        [answer("drop")],
        [hit("store", "fail", None, "Query")],
    ],
)
def test_a_fault_that_is_no_loss_or_befell_another_explains_nothing(story: Story, hits: list[Hit]) -> None:
    story.sends()
    story.gets(story.cat)
    assert story.verdict(*hits).lost == {accounts.UNEXPLAINED: 1}


def test_a_store_that_fails_explains_that_nobody_has_it_and_not_that_some_have(story: Story) -> None:
    story.sends(code="unavailable")
    failed = hit("store", "fail", None, "Query")
    assert story.verdict(failed).lost == {accounts.STORE_TOLD: 2}
    assert not story.verdict(failed).broken
    story.gets(story.cat)
    assert story.verdict(failed).times == {accounts.UNEXPLAINED: 1, accounts.SENT_ALL_THE_SAME: 1}


def test_a_frame_whose_function_never_ran_explains_that_nobody_has_it(story: Story) -> None:
    story.sends(answered_at=inf)
    ran = hit("frame", "fail", ANN, f'{{"action":"sendmessage","message":"{mark(7)} hello"')
    assert story.verdict(ran).lost == {"no function ran": 2}
    assert not story.verdict(ran).broken


def test_a_sender_that_goes_before_its_answer_may_have_sent_nothing(story: Story) -> None:
    story.sends(answered_at=inf)
    story.ann.end(10.5)
    assert story.verdict().lost == {"sender gone": 2}
    assert not story.verdict().broken


def test_a_sender_that_goes_after_all_was_at_rest_was_there(story: Story) -> None:
    story.sends(answered_at=inf)
    story.history.rested_at = 20
    for connection in story.history.connections:
        connection.end(21)
    assert set(story.verdict().broken) == {accounts.UNANSWERED, accounts.UNEXPLAINED}


@pytest.mark.parametrize("do", ["drop", "fail"])
def test_an_answer_that_was_lost_may_have_been_that_the_store_failed(story: Story, do: str) -> None:
    story.sends(answered_at=inf)
    verdict = story.verdict(answer(do, "error"))
    assert verdict.lost == {"store failed, answer lost": 2}
    assert not verdict.broken
    story.gets(story.cat)
    assert story.verdict(answer(do, "error")).times == {accounts.UNEXPLAINED: 1}


def test_a_sender_that_is_there_is_told_or_its_answer_was_lost(story: Story) -> None:
    story.sends(answered_at=inf)
    story.gets(story.ben, story.cat)
    assert story.verdict().times == {accounts.UNANSWERED: 1}
    assert not story.verdict(answer("drop")).broken
    assert story.verdict(answer("throttle")).times == {accounts.UNANSWERED: 1}


def test_y_webrtc_is_told_of_a_failure_without_its_frame(story: Story) -> None:
    story.sends(answered_at=inf, wants_answer=False, to_sender=True)
    assert story.verdict().times == {accounts.UNEXPLAINED: 2}
    story.ann.errors.append((9, "unavailable"))  # an earlier frame's
    assert story.verdict().times == {accounts.UNEXPLAINED: 2}
    assert story.verdict(hit("delivery", "drop", ANN, '{"type":"error","code":"unavailable"}')).lost == {
        "store failed, answer lost": 2
    }
    story.ann.errors.append((10.5, "unavailable"))
    assert story.verdict().lost == {accounts.STORE_TOLD: 2}
    story.gets(story.cat)
    assert story.verdict().times == {accounts.UNEXPLAINED: 1}
    story.ann.errors.append((10.6, "partly_delivered"))
    assert story.verdict().lost == {"broadcast ended early, sender told": 1}


def test_what_comes_twice_does_so_only_where_a_fault_doubled_it(story: Story) -> None:
    story.sends()
    story.gets(story.ben, story.ben, story.cat)
    assert story.verdict().times == {accounts.TWICE: 1}
    assert story.verdict(delivery("double", CAT)).times == {accounts.TWICE: 1}
    assert story.verdict(delivery("forget")).times == {accounts.TWICE: 1}
    verdict = story.verdict(delivery("double"))
    assert not verdict.broken
    assert verdict.doubled == 1
    story.gets(story.ben)
    assert story.verdict(delivery("double")).times == {accounts.TWICE: 1}


def test_a_sender_does_not_get_its_own_message_where_its_dialect_keeps_it_from_it(story: Story) -> None:
    story.joined(story.ann, 0, 1)
    story.sends()
    story.gets(story.ann, story.ben, story.cat)
    assert story.verdict().times == {accounts.NOT_FOR_IT: 1}
    story.history.messages[7].to_sender = True
    assert story.verdict().made == 3
    assert not story.verdict().broken


def test_a_connection_that_a_backend_excludes_does_not_get_it(story: Story) -> None:
    message = story.sends(excluded=story.ben)
    story.gets(story.cat)
    assert not story.verdict().broken
    story.gets(story.ben)
    assert story.verdict().times == {accounts.NOT_FOR_IT: 1}
    assert message.excluded is story.ben


@pytest.mark.parametrize(
    ("times", "due", "may"),
    [
        ((8, 9, 30, 31), True, True),
        ((8, 9, 10.5, 31), False, True),  # it leaves while the message is on its way
        ((8, 10.5, 30, 31), False, True),  # it joins while the message is on its way
        ((10.5, 12, 30, 31), False, True),
        ((11.5, 12, 30, 31), False, False),  # it joins when all is over
        ((3, 4, 8, 9), False, False),  # it had left
        ((3, 4, 8, 10.5), False, True),
        ((3, 4, 8, inf), False, True),  # it was never told that it had left
        ((8, inf, inf, inf), False, True),  # it was never told that it had joined
    ],
)
def test_who_must_and_who_may_have_a_message_is_told_by_when_it_was_a_member(
    story: Story, times: tuple[float, float, float, float], due: bool, may: bool
) -> None:
    story.sends()
    story.gets(story.cat)
    (stay,) = story.ben.stays
    stay.asked_at, stay.joined_at, stay.leaving_at, stay.left_at = times
    assert (accounts.UNEXPLAINED in story.verdict().times) is due
    story.gets(story.ben)
    assert (accounts.NOT_FOR_IT not in story.verdict().times) is may


def test_what_was_handed_on_comes_after_its_answer_or_is_given_up_there(story: Story) -> None:
    story.sends(answered_at=inf)
    story.history.answered(7, 11, None, {"delivered": 1, "handed_on": 1})
    late = story.connection("dan")
    story.joined(late, 12, 13)
    story.gets(story.cat, late)
    assert story.verdict().times == {accounts.UNEXPLAINED: 1}
    assert not judge(story.history, Ledger(), parts_given_up=1).broken
    story.sends(8, answered_at=inf, wants_answer=False)
    assert judge(story.history, Ledger(), parts_given_up=1).times == {accounts.UNEXPLAINED: 2}
    story.history.messages[7].handed_on = 0
    assert accounts.NOT_FOR_IT in story.verdict().times


def test_a_stranger_has_no_message(story: Story) -> None:
    story.sends()
    story.gets(story.ben, story.cat, story.connection("dan"))
    assert story.verdict().times == {accounts.NOT_FOR_IT: 1}


def test_what_is_on_its_way_when_its_receiver_goes_is_not_lost(story: Story) -> None:
    story.sends()
    story.gets(story.cat)
    story.ben.end(11 + accounts.TRAVEL_S)
    assert story.verdict().due == 1
    story.ben.ending_at += 0.1
    assert story.verdict().times == {accounts.UNEXPLAINED: 1}


def test_nothing_is_demanded_for_a_connection_without_a_name(story: Story) -> None:
    story.ben.id = None
    story.sends()
    story.gets(story.cat)
    assert story.verdict().due == 1


@pytest.mark.parametrize(
    ("form", "text", "good"),
    [
        (TEXT, "~7~ hello", True),
        (TEXT, "~7~ hell", False),
        (TEXT, '"~7~ hello"', False),
        (ENVELOPE, '{"channel":"news","message":"~7~ hello","from":"ann","at":5}', True),
        (ENVELOPE, '{"channel":"news","message":"~7~ hello","from":"ben","at":5}', False),
        (ENVELOPE, '{"channel":"news","message":"~7~ hello","from":"ann"}', False),
        (ENVELOPE, "~7~ hello", False),
        (YWEBRTC, '{"type":"publish","topic":"news","data":"~7~ hello","clients":2}', True),
        (YWEBRTC, '{"type":"publish","topic":"news","data":"~7~ hello"}', False),
        (YWEBRTC, '{"type":"publish","topic":"olds","data":"~7~ hello","clients":2}', False),
        (YWEBRTC, "~7~ hello", False),
    ],
)
def test_a_message_comes_as_it_was_published_in_the_form_of_its_receiver(
    story: Story, form: str, text: str, good: bool
) -> None:
    story.ben.stays[0].forms = {form}
    story.sends()
    story.gets(story.cat)
    story.history.received(story.ben, text)
    assert (accounts.ODD not in story.verdict().times) is good


def test_a_message_that_nobody_published_is_odd(story: Story) -> None:
    story.history.received(story.ben, "~9~ hello")
    story.history.received(story.ben, "hello")
    assert story.verdict().times == {accounts.ODD: 2}


def test_an_error_that_no_fault_brings_about_is_found(story: Story) -> None:
    story.history.codes.update(["unknown_action", "internal", "internal"])
    verdict = judge(story.history, Ledger([hit("store", "fail")] * 9), frozenset({"unknown_action"}))
    assert verdict.broken == {accounts.CODE: ["internal, 2 times, and 0 faults that may bring it about"]}


def test_an_error_of_api_gateway_itself_needs_a_fault(story: Story) -> None:
    story.ben.notices = 2
    fail = hit("frame", "fail", BEN, "Marko?")
    assert story.verdict(fail).times == {accounts.NOTICE: 1}
    assert not story.verdict(fail, fail).broken
    assert not story.verdict(fail, hit("invocation", "kill", BEN, "f")).broken


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_each_loss_has_one_cause_and_every_delivery_that_was_due_is_counted(fates: Sequence[tuple[bool, bool]]) -> None:
    story = Story()
    hits = []
    for number, (came, dropped) in enumerate(fates):
        story.sends(number, at=10 + number, answered_at=10.5 + number)
        story.gets(story.cat, number=number)
        if came:
            story.gets(story.ben, number=number)
        if dropped:
            hits.append(delivery("drop", number=number))
    verdict = story.verdict(*hits)
    assert verdict.due == 2 * len(fates) == verdict.made + verdict.lost.total()
    assert verdict.lost[accounts.UNEXPLAINED] == sum(not came and not dropped for came, dropped in fates)
