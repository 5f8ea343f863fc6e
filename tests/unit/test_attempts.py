"""An attempt is never used again: what belonged to an earlier one (its time limit, an order to stop) meets no later one."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_attempt
from tests.support.execution import ExecutionBench, error_of, execution_bench
from tests.support.poll import eventually
from yadtq.execution.attempt import StopReason
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.outcome import Outcome

REASONS = list(StopReason)


@pytest.fixture
async def bench() -> AsyncIterator[ExecutionBench]:
    async with execution_bench() as made:
        yield made


class Twice:
    """A task that fails at once the first time, and the second time waits until it is let go."""

    def __init__(self, bench: ExecutionBench, *, sync: bool, timeout: float | None) -> None:
        self.bench = bench
        self.begun = threading.Event()
        self.let_go = threading.Event()
        calls = 0

        def first() -> bool:
            nonlocal calls
            calls += 1
            return calls == 1

        def sync_work() -> str:
            if first():
                raise ValueError("at once")
            self.begun.set()
            self.let_go.wait(20)
            return "second"

        async def work() -> str:
            if first():
                raise ValueError("at once")
            self.begun.set()
            await eventually(self.let_go.is_set, interval=0.005)
            return "second"

        self.task = bench.app.task(retries=5, timeout=timeout)(sync_work if sync else work)

    async def first_and_second(self, *, after_s: float = 0.0) -> tuple[Attempt, Attempt]:
        """The one has ended, the other runs, of the same delivery. after_s: between their begins."""
        now = asyncio.get_running_loop().time
        began = now()
        first = self.bench.start(make_attempt(self.task, task_id="same", number=1))
        outcome = (await self.bench.ended())[0]
        assert outcome.status is S.RETRYING
        await eventually(lambda: now() >= began + after_s)
        origin = first.origin
        origin.nonce = ""
        second = self.bench.start(make_attempt(of=origin, number=2, failures=1))
        await eventually(self.begun.is_set)
        return first, second

    async def end(self) -> Outcome:
        self.let_go.set()
        return (await self.bench.ended(2))[1]


@pytest.fixture(params=[False, True], ids=["async", "sync"])
def sync(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_the_time_limit_of_an_attempt_that_has_ended_does_not_end_the_next(
    bench: ExecutionBench, sync: bool
) -> None:
    """The one fails at once, and its limit comes due while the other runs, which still has most of its time."""
    now = asyncio.get_running_loop().time
    first_due = now() + 1.0
    task = Twice(bench, sync=sync, timeout=1.0)
    _, second = await task.first_and_second(after_s=0.7)
    await eventually(lambda: now() > first_due + 0.05)
    assert second.stop is None
    assert (await task.end()).payload == b'"second"'


async def test_the_next_has_a_limit_of_its_own_from_its_own_begin(bench: ExecutionBench, sync: bool) -> None:
    task = Twice(bench, sync=sync, timeout=0.2)
    first, second = await task.first_and_second()
    outcome = (await bench.ended(2))[1]
    task.let_go.set()
    assert (outcome.attempt, second.stop, first.stop) == (second, StopReason.TIMEOUT, None)
    assert error_of(outcome)["type"] == "TaskTimeout"


@pytest.mark.parametrize("reason", REASONS)
async def test_an_order_to_stop_that_comes_too_late_stops_nobody(
    bench: ExecutionBench, sync: bool, reason: StopReason
) -> None:
    """A renewal that says "lost" of the first lease, or a kill of its process, may be answered when the second runs."""
    task = Twice(bench, sync=sync, timeout=None)
    first, second = await task.first_and_second()
    first.cancel(reason)
    assert (first.stop, second.stop) == (None, None)
    assert (await task.end()).payload == b'"second"'


async def test_a_second_one_beside_a_first_that_does_not_end_is_another(bench: ExecutionBench) -> None:
    """Its lease was lost while it ran; what stops the one does not stop the other."""
    let_go = asyncio.Event()

    @bench.app.task
    async def stubborn(stays: bool) -> str:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                if not stays:
                    raise
        return "done"

    first = bench.start(make_attempt(stubborn, True, task_id="same", number=1))
    await asyncio.sleep(0)
    second = bench.start(make_attempt(stubborn, False, task_id="same", number=2))
    await asyncio.sleep(0)
    assert first.stop is StopReason.LEASE_LOST
    assert second.stop is None
    first.cancel(StopReason.TIMEOUT)
    assert (first.stop, second.stop) == (StopReason.LEASE_LOST, None)
    assert set(bench.executor.attempts()) == {first, second}
    let_go.set()
    outcomes = {outcome.attempt: outcome for outcome in await bench.ended(2)}
    assert outcomes[second].status is S.SUCCESS


async def test_an_attempt_gets_its_arguments_fresh_from_the_record(bench: ExecutionBench) -> None:
    """Not as the one before has left them."""
    seen: list[list[int]] = []

    @bench.app.task(retries=5)
    async def grow(numbers: list[int]) -> None:
        numbers.append(0)
        seen.append(list(numbers))
        raise ValueError

    first = bench.start(make_attempt(grow, [3]))
    await bench.ended(1)
    for number in (2, 3):
        bench.start(make_attempt(of=first.origin, number=number))
        await bench.ended(number)
    assert seen == [[3, 0]] * 3
