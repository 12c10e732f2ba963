"""Threads that run handlers: bounded, and never ended by what runs in them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from localaws.functions import FunctionError, Threads


def test_no_more_calls_than_allowed_run_at_the_same_time() -> None:
    running: list[int] = []
    peak: list[int] = []
    full, release, lock = threading.Barrier(3), threading.Event(), threading.Lock()

    def call(number: int) -> int:
        with lock:
            running.append(number)
            peak.append(len(running))
        if number < 2:
            full.wait(20)
        assert release.wait(20)
        with lock:
            running.remove(number)
        return number

    async def run() -> list[int]:
        threads = Threads(2)
        calls = [asyncio.create_task(threads.run(lambda number=number: call(number))) for number in range(10)]  # type: ignore[misc]
        await asyncio.to_thread(full.wait, 20)
        release.set()
        return list(await asyncio.gather(*calls))

    assert asyncio.run(run()) == list(range(10))
    assert max(peak) == 2


def test_one_call_after_the_other_stays_in_one_thread() -> None:
    async def run() -> set[int]:
        threads = Threads(8)
        return {await threads.run(threading.get_ident) for _ in range(50)}

    # An idle thread is taken before a new one is made; it says that it is idle a moment after its outcome is known.
    assert len(asyncio.run(run())) <= 2


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, StopIteration])
def test_whatever_a_call_raises_is_a_function_error_and_the_thread_goes_on(error: type[BaseException]) -> None:
    def call() -> None:
        raise error

    async def run() -> str:
        threads = Threads(1)
        with pytest.raises(FunctionError):
            await asyncio.wait_for(threads.run(call), 20)
        return str(await asyncio.wait_for(threads.run(lambda: "still there"), 20))

    assert asyncio.run(run()) == "still there"


def test_a_call_that_nobody_waits_for_any_more_when_its_turn_comes_is_not_begun() -> None:
    release, begun = threading.Event(), []

    async def run() -> None:
        threads = Threads(1)
        first = asyncio.create_task(threads.run(lambda: release.wait(20)))
        second = asyncio.create_task(threads.run(lambda: begun.append("second")))
        await asyncio.sleep(0)  # both are asked for
        second.cancel()
        release.set()
        await first
        await threads.run(lambda: begun.append("third"))
        assert not threads.busy

    asyncio.run(run())
    assert begun == ["third"]
