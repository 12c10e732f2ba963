from __future__ import annotations

import pytest

from chalicelib.budget import HANDLER_MS, Budget

from .fakes import NOW, Context


@pytest.mark.parametrize(("remaining", "drawing"), [(30_000, 20_000), (60_000, 20_000), (3_000, 2_000), (0, 0)])
def test_a_handler_draws_for_two_thirds_of_its_time_and_twenty_seconds_at_most(remaining: int, drawing: int) -> None:
    budget = Budget.of(Context(remaining), NOW, HANDLER_MS)
    assert budget.draw_until == NOW + drawing
    assert budget.retry_until == pytest.approx(NOW + drawing * 1.2)


def test_a_function_that_nobody_waits_for_has_its_own_time() -> None:
    assert Budget.of(Context(900_000), NOW).draw_until == NOW + 600_000
