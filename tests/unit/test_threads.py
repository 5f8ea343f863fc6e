"""Threads for sync tasks: bounded, though none of them can be ended."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_attempt
from tests.support.poll import eventually
from yadtq.execution.attempt import Attempt, StopReason
from yadtq.execution.limits import Limits
from yadtq.execution.runners.threads import ThreadRunner
from yadtq.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


class Bench:
    """A runner, and attempts that run on it as the executor runs them. freed: how often a thread came back by itself."""

    def __init__(self, total: int) -> None:
        self.limits = Limits(SystemClock())
        self.threads = ThreadRunner(total, self.limits)
        self.freed = 0
        self.threads.on_free = self._free

    def _free(self) -> None:
        self.freed += 1

    async def call(self, function: Callable[..., Any], attempt: Attempt | None = None) -> Any:
        attempt = attempt or make_attempt()
        attempt.running = asyncio.current_task()
        try:
            return await self.threads.call(attempt, function, (), {})
        finally:
            attempt.running = None

    def begin(self, function: Callable[..., Any], attempt: Attempt | None = None) -> asyncio.Task[Any]:
        return asyncio.create_task(self.call(function, attempt))

    async def all_free(self) -> None:
        """Every place can be had again."""
        barrier = threading.Barrier(self.threads.total)
        await asyncio.wait_for(asyncio.gather(*(self.call(barrier.wait) for _ in range(self.threads.total))), 5)


def entered(gate: threading.Event) -> tuple[threading.Event, Callable[[], bool]]:
    """A function that waits for the gate, and the event that it has begun."""
    begun = threading.Event()

    def wait() -> bool:
        begun.set()
        return gate.wait()

    return begun, wait


async def test_a_result_and_an_error_come_through() -> None:
    bench = Bench(1)
    assert await bench.call(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await bench.call(lambda: 1 // 0)
    assert bench.threads.left_behind() == []
    await bench.all_free()
    assert bench.freed == 0, "nothing was left to itself"


async def test_a_thread_left_to_itself_keeps_its_place_until_it_returns(gate: threading.Event) -> None:
    bench, ran = Bench(1), []
    hanging = make_attempt()
    begun, wait = entered(gate)
    first = bench.begin(wait, hanging)
    await eventually(begun.is_set)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert bench.threads.left_behind() == [hanging]
    # The same delivery again, as a retry after a time-out would be: it has to wait for the place.
    second = bench.begin(lambda: ran.append(1), make_attempt(of=hanging.origin, number=2))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done
    assert (bench.threads.left_behind(), ran, bench.freed) == ([hanging], [], 0)
    gate.set()
    await asyncio.wait_for(second, 5)
    assert (bench.threads.left_behind(), ran, bench.freed) == ([], [1], 1)


async def test_one_cancelled_while_it_waits_for_a_place_never_begins_and_takes_none(gate: threading.Event) -> None:
    bench, ran = Bench(1), []
    begun, wait = entered(gate)
    first = bench.begin(wait)
    await eventually(begun.is_set)
    second = bench.begin(lambda: ran.append(2))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await asyncio.wait_for(first, 5)
    await asyncio.wait_for(bench.call(lambda: ran.append(3)), 5)
    assert ran == [3]


async def test_cancelled_at_any_moment_a_place_is_never_lost() -> None:
    bench = Bench(2)
    for turns in range(60):
        run = bench.begin(lambda: None)
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
    await eventually(lambda: not bench.threads.left_behind())
    await bench.all_free()


async def test_the_time_limit_does_not_run_while_a_thread_is_waited_for(gate: threading.Event) -> None:
    """It would end tasks that never ran. The cause is in where it is started, so that is what is looked at."""
    bench = Bench(1)
    begun, wait = entered(gate)
    first = bench.begin(wait)
    await eventually(begun.is_set)
    queued = make_attempt()
    queued.timeout_s = 30.0
    second = bench.begin(lambda: None, queued)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(bench.limits) == 0
    gate.set()
    await asyncio.wait_for(asyncio.gather(first, second), 5)
    assert len(bench.limits) == 1


async def test_many_threads_that_begin_while_the_loop_looks_at_them() -> None:
    bench = Bench(32)
    calls = [bench.begin(lambda: None) for _ in range(600)]
    while not all(call.done() for call in calls):
        bench.threads.left_behind()
        await asyncio.sleep(0)
    await bench.all_free()


async def test_an_attempt_that_is_stopped_in_its_thread_ends_at_once(gate: threading.Event) -> None:
    bench = Bench(1)
    attempt = make_attempt()
    begun, wait = entered(gate)
    run = bench.begin(wait, attempt)
    await eventually(begun.is_set)
    attempt.cancel(StopReason.TIMEOUT)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 5)
    assert not gate.is_set()
