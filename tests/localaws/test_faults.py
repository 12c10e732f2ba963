"""Plans, their dice and the ledger, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localaws import faults
from localaws.faults import PLACES, Faults, Plan, PlanError, Rule

ALL = [(at, do) for at, does in PLACES.items() for do in does]

whole = st.integers(0, 2**63)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    at, do = draw(st.sampled_from(ALL))
    least, more = draw(st.integers(0, 1_800_000)), draw(st.integers(0, 1_800_000))
    ms = st.sampled_from([str(least), f"{least}-{least + more}"])
    request = draw(whole) if do == "kill" else 1
    return Rule(
        at,
        do,
        share=draw(st.floats(0, 1)),
        match="" if at in {"disconnect", "socket"} else draw(st.text(st.characters(), max_size=20)),
        ms=draw(ms if do == "delay" else st.none() | ms) if do in {"delay", "freeze", "cut"} else None,
        skip=draw(whole),
        times=draw(st.none() | whole),
        request=request,
        after=bool(request) and do == "kill" and draw(st.booleans()),
    )


plans = st.builds(Plan, st.lists(rules(), max_size=5).map(tuple), st.none() | whole)


@given(plans)
@settings(deadline=None)
def test_a_plan_is_read_as_it_is_told(plan: Plan) -> None:
    assert Plan.parse(json.dumps(plan.as_json())) == plan


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([each for pair in ALL for each in pair]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*Rule.__dataclass_fields__, "seed", "rules"]) | st.text(), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(values | values.map(lambda value: {"rules": [value]}))
@settings(deadline=None)
def test_whatever_else_is_given_is_named_in_one_short_line(value: Any) -> None:
    try:
        plan = Plan.parse(json.dumps(value))
    except PlanError as error:
        assert 0 < len(str(error)) < 500
        assert "\n" not in str(error)
    else:
        assert Plan.parse(json.dumps(plan.as_json())) == plan


@given(st.binary() | st.text())
@settings(deadline=None)
def test_what_is_no_json_object_is_no_plan(text: str | bytes) -> None:
    assume(text[:1] not in {"{", b"{"})
    with pytest.raises(PlanError):
        Plan.parse(text)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (7, "rules[0] is a JSON object, not 7."),
        ({}, "rules[0].at takes frame, delivery, store, invocation, disconnect, socket, not None."),
        ({"at": ["frame"]}, "rules[0].at takes frame, delivery, store, invocation, disconnect, socket, not ['frame']."),
        ({"at": "frame", "do": "drop"}, "rules[0].do at 'frame' takes delay, fail, not 'drop'."),
        (
            {"at": "frame", "do": "fail", "chance": 1},
            "takes at, do, share, match, ms, skip, times, request, after, not",
        ),
        ({"at": "frame", "do": "fail", "share": 1.5}, "rules[0].share takes a number from 0 to 1, not 1.5."),
        ({"at": "frame", "do": "fail", "share": True}, "rules[0].share takes a number from 0 to 1, not True."),
        ({"at": "frame", "do": "fail", "share": float("nan")}, "rules[0].share takes a number from 0 to 1, not nan."),
        ({"at": "frame", "do": "fail", "match": 5}, "rules[0].match takes a text, not 5."),
        ({"at": "frame", "do": "fail", "ms": "5"}, "rules[0].ms has no meaning for frame fail."),
        ({"at": "frame", "do": "delay"}, "rules[0].ms is needed for a delay"),
        ({"at": "frame", "do": "delay", "ms": "80-0"}, 'rules[0].ms takes milliseconds like "50" or "0-80"'),
        ({"at": "frame", "do": "delay", "ms": "5-"}, "rules[0].ms takes milliseconds"),
        ({"at": "frame", "do": "delay", "ms": "²"}, "rules[0].ms takes milliseconds"),
        ({"at": "frame", "do": "delay", "ms": True}, "rules[0].ms takes milliseconds"),
        ({"at": "frame", "do": "delay", "ms": "3600001"}, "3600000 at most, not '3600001'."),
        ({"at": "frame", "do": "fail", "skip": -1}, "rules[0].skip takes a whole number from 0"),
        ({"at": "frame", "do": "fail", "times": 1.0}, "rules[0].times takes a whole number from 0"),
        ({"at": "frame", "do": "fail", "times": True}, "rules[0].times takes a whole number from 0"),
        ({"at": "frame", "do": "fail", "request": 1}, "rules[0].request has no meaning for frame fail."),
        ({"at": "socket", "do": "cut", "match": "x"}, "rules[0].match has no meaning for socket cut."),
        ({"at": "invocation", "do": "kill", "after": 1}, "rules[0].after takes true or false, not 1."),
        (
            {"at": "invocation", "do": "kill", "request": 0, "after": True},
            "rules[0].after needs a request of 1 or more",
        ),
    ],
)
def test_a_wrong_rule_is_named_with_what_was_expected_and_what_came(rule: Any, said: str) -> None:
    with pytest.raises(PlanError) as error:
        Plan.parse(json.dumps({"rules": [rule]}))
    assert said in str(error.value)


def test_milliseconds_may_be_a_number() -> None:
    assert Rule.parse({"at": "frame", "do": "delay", "ms": 50}) == Rule("frame", "delay", ms="50")


def struck(faults: Faults, count: int, at: str = "frame", text: str = "") -> list[int]:
    """Which of `count` things that happen are struck."""
    return [number for number in range(count) if faults.strike(at, None, text)]


def test_a_share_of_what_happens_is_hit_and_the_same_share_with_the_same_seed() -> None:
    plan = Plan((Rule("frame", "fail", share=0.3),), seed=7)
    first = struck(Faults(plan), 1000)
    assert 200 < len(first) < 400
    assert struck(Faults(plan), 1000) == first
    assert struck(Faults(Plan(plan.rules, seed=8)), 1000) != first


def test_a_rule_draws_the_same_whatever_other_rules_and_hits_there_are() -> None:
    rule = Rule("frame", "delay", share=0.3, ms="0-80")
    alone = Faults(Plan((rule,), seed=7))
    times = [[strike.wait_s for strike in alone.strike("frame")] for _ in range(1000)]
    # Behind others it has another index, and so other dice: its company is behind it.
    company = (Rule("frame", "fail", share=0.5), Rule("frame", "delay", ms="1"))
    among = Faults(Plan((rule, *company), seed=7))
    for expected in times:
        strikes = among.strike("frame")
        assert [strike.wait_s for strike in strikes[: len(expected)]] == expected


def test_a_settled_thing_is_left_alone_by_later_rules_whose_dice_fall_all_the_same() -> None:
    later = Rule("delivery", "throttle", share=0.5)
    alone = Faults(Plan((Rule("frame", "fail"), later), seed=7))
    behind = Faults(Plan((Rule("delivery", "drop", share=0.5), later), seed=7))
    throttled = struck(alone, 1000, "delivery")
    does = [[strike.do for strike in behind.strike("delivery")] for _ in range(1000)]
    assert all(len(each) <= 1 for each in does)
    assert [number for number, each in enumerate(does) if each == ["throttle"]] == [
        number for number in throttled if does[number] != ["drop"]
    ]


def test_what_does_not_settle_a_thing_adds_up() -> None:
    rules = (Rule("delivery", "delay", ms="5"), Rule("delivery", "double"), Rule("delivery", "drop"))
    assert [strike.do for strike in Faults(Plan(rules)).strike("delivery")] == ["delay", "double", "drop"]


def test_the_first_are_skipped_and_no_more_than_so_many_hit() -> None:
    faults = Faults(Plan((Rule("frame", "fail", match="x", skip=2, times=3),)))
    assert struck(faults, 2, text="y") == []
    assert struck(faults, 10, text="axb") == [2, 3, 4]


def test_only_batches_can_come_back_unprocessed() -> None:
    faults = Faults(Plan((Rule("store", "unprocessed"),)))
    operations = ("BatchWriteItem", "PutItem", "BatchGetItem", "Query", "BatchExecuteStatement")
    assert [name for name in operations if faults.strike("store", None, name)] == ["BatchWriteItem", "BatchGetItem"]


def test_the_ledger_says_what_was_done_to_whom_in_order_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "LEDGER_SIZE", 5)
    injected = Faults(Plan((Rule("delivery", "drop", match="x"), Rule("disconnect", "lose"))))
    injected.strike("delivery", "a", "x" * 300)
    injected.strike("delivery", "b", "y")
    injected.strike("disconnect", "b")
    last, hits = injected.hits(0)
    assert last == 2
    assert [hit.as_json() for hit in hits] == [
        {"number": 1, "rule": 0, "at": "delivery", "do": "drop", "connection": "a", "detail": "x" * 256},
        {"number": 2, "rule": 1, "at": "disconnect", "do": "lose", "connection": "b", "detail": ""},
    ]
    struck(injected, 10, "disconnect")
    last, hits = injected.hits(0)
    assert (last, [hit.number for hit in hits]) == (12, [8, 9, 10, 11, 12])
    assert [hit.number for hit in injected.hits(10)[1]] == [11, 12]
    assert injected.hits(12)[1] == injected.hits(10**18)[1] == []


def test_another_plan_starts_its_dice_anew_and_the_ledger_goes_on() -> None:
    plan = Plan((Rule("frame", "fail", share=0.5),), seed=7)
    injected = Faults(plan)
    first = struck(injected, 100)
    injected.run(plan)
    assert injected.rules() == [{"at": "frame", "do": "fail", "share": 0.5, "hits": 0}]
    assert struck(injected, 100) == first
    assert injected.rules()[0]["hits"] == len(first)
    assert injected.hits(0)[0] == 2 * len(first)


def test_a_plan_without_a_seed_takes_the_default_or_one_at_random() -> None:
    assert Faults(Plan(), default_seed=5).seed == 5
    assert Faults(Plan(seed=0), default_seed=5).seed == 0
    assert Faults(Plan()).seed != Faults(Plan()).seed


KILL = Rule("invocation", "kill", match="message", request=2, times=1)


def test_a_kill_comes_at_its_request_and_counts_only_then() -> None:
    injected = Faults(Plan((KILL,)), workers=True)
    assert injected.doom("invocation", "a", "websocket_connect") == []
    (first,), (second,) = (injected.doom("invocation", each, "websocket_message") for each in "ab")
    assert not first.due(0, after=False)
    assert not first.due(1, after=False)
    assert not first.due(2, after=True)
    assert injected.hits(0)[0] == 0
    assert second.due(2, after=False)
    assert not first.due(2, after=False), "one hit was all that the rule had"
    (hit,) = injected.hits(0)[1]
    assert (hit.connection, hit.detail) == ("b", "websocket_message")


def test_a_kill_of_a_plan_that_has_gone_does_not_come() -> None:
    injected = Faults(Plan((KILL,)), workers=True)
    (doom,) = injected.doom("invocation", "a", "websocket_message")
    injected.run(Plan((KILL,)))
    assert not doom.due(2, after=False)


def test_a_kill_needs_processes_to_kill_and_a_refused_plan_changes_nothing() -> None:
    injected = Faults(Plan((Rule("frame", "fail"),), seed=7))
    for make in (lambda: Faults(Plan((KILL,))), lambda: injected.run(Plan((KILL,)))):
        with pytest.raises(PlanError, match="LOCALAWS_WORKERS"):
            make()
    assert injected.rules() == [{"at": "frame", "do": "fail", "hits": 0}]
