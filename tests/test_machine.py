"""The guarantees under any order of events and failures, as tests/machine makes them; and that it finds bugs."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import bugs, gateway, lambdas, store
from .machine.bugs import Bug
from .machine.machine import Machine
from .machine.model import MAY, MUST, NEVER, Failure
from .machine.world import KILLED, RAISED, RETURNED

USUAL = settings(
    stateful_step_count=50,
    deadline=None,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
SHORT = settings(USUAL, derandomize=True, max_examples=250)
LONG = settings(USUAL, max_examples=int(os.environ.get("MACHINE_EXAMPLES") or 5_000))
SEARCH = settings(USUAL, derandomize=True, max_examples=1_000, phases=[Phase.generate])

REACHED = (
    *(f"invocations {outcome}" for outcome in (RETURNED, RAISED, KILLED)),
    *(kind for wire in (store, gateway, lambdas) for kind in wire.FAULTS),
    *(verdict for kind in (MUST, MAY, NEVER) for verdict in (kind, f"{kind} be a member")),
    *("superseded", "unavailable", "partly_delivered", "no_home_channel", "token_expired"),
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


SLOWLY_FOUND: tuple[Bug, ...] = ()


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, marks=pytest.mark.long if bug in SLOWLY_FOUND else ()) for bug in bugs.BUGS],
    ids=lambda bug: bug.__name__,
)
def test_it_is_found_when_functions(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    with pytest.raises(Failure):
        run(SEARCH)


def test_what_is_found_is_told_as_a_program_that_finds_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bugs.lose_prunes(monkeypatch)
    with pytest.raises(Failure) as found:
        run(SHORT)
    told = "\n".join(getattr(found.value, "__notes__"))  # noqa: B009
    program = [line for line in told.splitlines() if line.startswith("state")]
    assert len(program) <= 5
    assert "@reproduce_failure(" in told
    with pytest.raises(Failure, match="is gone, and still in"):
        exec("\n".join(program), {"Machine": Machine})
