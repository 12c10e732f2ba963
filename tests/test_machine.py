"""The guarantees under any order of events and failures, as tests/machine makes them; and that it finds bugs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import bugs, gateway, lambdas, store
from .machine.bugs import Bug
from .machine.machine import Machine
from .machine.model import MAY, MUST, NEVER, Failure
from .machine.stage import Stage
from .machine.world import KILLED, RAISED, RETURNED

USUAL = settings(
    stateful_step_count=50,
    deadline=None,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
SHORT = settings(USUAL, derandomize=True, max_examples=750)
LONG = settings(USUAL, max_examples=int(os.environ.get("MACHINE_EXAMPLES") or 5_000))
SEARCH = settings(USUAL, derandomize=True, max_examples=1_000, phases=[Phase.generate])

REACHED = (
    *(f"invocations {outcome}" for outcome in (RETURNED, RAISED, KILLED)),
    *(kind for wire in (store, gateway, lambdas) for kind in wire.FAULTS),
    *(verdict for kind in (MUST, MAY, NEVER) for verdict in (kind, f"{kind} be a member")),
    *("superseded", "unavailable", "partly_delivered", "no_home_channel"),
    *("pairs", "handed on", "clean disconnects"),
)
"""What a run comes to that is worth something."""


def run(how: settings) -> None:
    run_state_machine_as_test(Machine, settings=how)  # type: ignore[no-untyped-call]


@pytest.fixture(name="reached", autouse=True)
def what_is_reached() -> Counter[str]:
    Machine.reached.clear()
    return Machine.reached


def test_whatever_happens_the_guarantees_hold(reached: Counter[str]) -> None:
    run(SHORT)
    assert reached["steps"] >= 10_000
    assert not [kind for kind in REACHED if not reached[kind]]


@pytest.mark.long
def test_whatever_happens_for_long_the_guarantees_hold(reached: Counter[str]) -> None:
    """Other events each time: MACHINE_EXAMPLES of them, 50 rules each."""
    run(LONG)
    print(dict(reached))


def begin(clients: int, home: bool = False, rights: bool = False) -> str:
    return (
        f"state = Machine()\nstate.begin(clients={clients}, at_home={home}, inside=False, arriving=False, "
        f"rights={rights}, parts=1, lag_ms=0, skew_ms=0)\n"
    )


SETTLE = "state.settle(order='one by one', ms=0)\n"
SWAPPED = (
    begin(1)
    + "state.say(client=0, words=['join', 'leave'], channel='@room', ms=1, swapped=False)\n"
    + "state.settle(order='last first', ms=0)\n"
)
REFUSED = (
    begin(1)
    + "state.fail(how='store refused', times=1, after=0)\n"
    + f"state.say(client=0, words=['join'], channel='@room', ms=0, swapped=False)\n{SETTLE}"
)
SECOND_PAGE_REFUSED = (
    begin(4, home=True)
    + "state.fail(how='store refused', times=1, after=1)\n"
    + f"state.send(client=0, how='send', channel='default')\n{SETTLE}"
)
HANDED_ON = (
    begin(4, home=True)
    + "state.publish(channel='default', remaining_ms=400)\n"
    + "state.settle(order='one by one', ms=60)\n"
)


def say(client: int, word: str) -> str:
    return f"state.say(client={client}, words=['{word}'], channel='@room', ms=1, swapped=False)\n"


def announce(client: int) -> str:
    return f"state.send(client={client}, how='announce', channel='@room')\n"


def wait(*milliseconds: int) -> str:
    return "".join(f"state.wait(milliseconds={each})\n" for each in milliseconds)


AGAIN = (
    begin(2, home=True)
    + f"state.publish(channel='default', remaining_ms=None)\n{SETTLE}state.run_again(which=0)\n{SETTLE}"
)
ANNOUNCE_LATE = begin(2) + f"{say(0, 'subscribe')}{say(1, 'subscribe')}{SETTLE}{announce(0)}state.finish(which=0)\n"
PROGRAMS: Mapping[Bug, str] = {
    bugs.leave_no_tombstone: SWAPPED,
    bugs.join_over_a_later_leave: SWAPPED,
    bugs.say_that_a_superseded_join_is_none: SWAPPED,
    bugs.announce_at_once: begin(2) + "state.enter(client=0, together=2)\nstate.settle(order='in turns', ms=0)\n",
    bugs.count_the_delay_of_an_announce_from_the_join: begin(2)
    + f"{say(0, 'subscribe')}{SETTLE}"
    + f"state.fail(how='store slow', times=1, after=1)\n{say(1, 'subscribe')}state.finish(which=0)\n"
    + f"{announce(1)}{announce(0)}{wait(1_000, 1_000, 250, 250)}state.finish(which=0)\n{wait(60)}{SETTLE}",
    bugs.delay_announces_by_half_as_much: f"{ANNOUNCE_LATE}{announce(1)}{wait(1_000, 250, 250, 250, 60, 60)}{SETTLE}",
    bugs.delay_announces_by_a_third_as_much: f"{ANNOUNCE_LATE}{announce(1)}{wait(1_000)}{SETTLE}",
    bugs.claim_nothing: AGAIN,
    bugs.forget_whose_claim_it_is: AGAIN,
    bugs.forget_what_was_left_unprocessed: begin(1)
    + "state.fail(how='store left some unprocessed', times=1, after=0)\n"
    + f"state.connect(home='default', token=False, answer_ms=0)\n{SETTLE}",
    bugs.ack_a_join_that_failed: REFUSED,
    bugs.tell_no_client_of_a_failure: REFUSED,
    bugs.say_that_nothing_was_sent_where_some_was: SECOND_PAGE_REFUSED,
    bugs.say_that_it_has_no_home_where_its_token_has_ended: begin(1, home=True, rights=True)
    + f"state.connect(home='default', token=True, answer_ms=0)\n{SETTLE}"
    + "state.rest(milliseconds=61_000, sweep=True)\n"
    + f"state.send(client=1, how='message all', channel='default')\n{SETTLE}",
    bugs.end_a_home_membership_that_a_join_has_made_its_own: begin(2, home=True)
    + f"state.say(client=0, words=['join'], channel='default', ms=0, swapped=False)\n{SETTLE}"
    + f"state.say(client=0, words=['subscribe'], channel='@room', ms=0, swapped=False)\n{SETTLE}",
    bugs.disconnect_by_the_first_page: begin(2, home=True) + f"state.vanish(client=0, told=True)\n{SETTLE}",
    bugs.hand_on_what_was_sent: HANDED_ON,
    bugs.hand_on_with_a_gap: HANDED_ON,
    bugs.give_up_what_is_throttled: begin(2, home=True)
    + "state.fail(how='429', times=1, after=0)\n"
    + f"state.send(client=0, how='send', channel='default')\n{SETTLE}",
    bugs.miscount: begin(2, home=True)
    + "state.fail(how='lost', times=1, after=0)\n"
    + f"state.send(client=0, how='send', channel='default')\n{SETTLE}",
}
"""Of bugs that take hypothesis long to come upon, what it has to think of: as it prints it."""

END = "state.teardown()"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """A program that fails does not come to its end: what its stage has patched is undone here."""
    yield
    while Stage.unclosed:
        Stage.unclosed[-1].close()


@pytest.mark.parametrize("bug", [bug for bug in bugs.BUGS if bug not in PROGRAMS], ids=lambda bug: bug.__name__)
def test_it_is_found_when_functions(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    with pytest.raises(Failure):
        run(SEARCH)


@pytest.mark.parametrize("bug", PROGRAMS, ids=lambda bug: bug.__name__)
def test_these_steps_show_when_functions(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    exec(PROGRAMS[bug] + END, {"Machine": Machine})
    bug(monkeypatch)
    with pytest.raises(Failure):
        exec(PROGRAMS[bug] + END, {"Machine": Machine})


def test_what_is_found_is_told_as_a_program_that_finds_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bugs.tell_twice(monkeypatch)
    with pytest.raises(Failure) as found:
        run(SHORT)
    told = "\n".join(getattr(found.value, "__notes__"))  # noqa: B009
    program = [line for line in told.splitlines() if line.startswith("state")]
    assert len(program) <= 5
    assert "@reproduce_failure(" in told
    with pytest.raises(Failure, match="twice"):
        exec("\n".join(program), {"Machine": Machine})
