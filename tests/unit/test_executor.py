"""One attempt's run: what a task gets, what is handed over, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import json
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_attempt
from tests.support.execution import ExecutionBench, execution_bench, forever
from yadtq import TaskContext
from yadtq.execution.attempt import StopReason
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bench() -> AsyncIterator[ExecutionBench]:
    async with execution_bench() as made:
        yield made


class TestSuccess:
    async def test_the_result_as_json_by_the_annotation(self, bench: ExecutionBench) -> None:
        async def addition(x: int, y: int) -> int:
            return x + y

        outcome = await bench.run(addition, 1, "2")
        assert (outcome.status, outcome.payload) == (S.SUCCESS, b"3"), "arguments are validated on arrival, too"
        assert bench.free_then == [bench.slots.total], "the slot is free before the outcome is handed over"
        await asyncio.wait_for(bench.slots.idle(), 1)

    async def test_keyword_arguments(self, bench: ExecutionBench) -> None:
        async def work(x: int, *, y: int = 0) -> int:
            return x - y

        assert (await bench.run(work, 1, kwargs={"y": 5})).payload == b"-4"

    async def test_a_sync_function_runs_in_a_thread_with_its_context_variables(self, bench: ExecutionBench) -> None:
        variable = contextvars.ContextVar("variable", default="unset")
        variable.set("of the caller")

        def work() -> list[str]:
            return [threading.current_thread().name, variable.get()]

        name, value = json.loads((await bench.run(work)).payload)
        assert name != threading.current_thread().name
        assert value == "of the caller"

    async def test_a_plain_decorator_around_an_async_function_is_awaited(self, bench: ExecutionBench) -> None:
        async def work() -> int:
            await asyncio.sleep(0)
            return 7

        @functools.wraps(work)
        def timed() -> Any:
            return work()

        assert (await bench.run(timed)).payload == b"7"

    async def test_context_variables_of_one_task_are_not_those_of_the_next(self, bench: ExecutionBench) -> None:
        variable = contextvars.ContextVar("variable", default="clean")

        @bench.app.task
        async def work(mark: str) -> str:
            before = variable.get()
            variable.set(mark)
            await asyncio.sleep(0)
            return before + variable.get()

        for mark in "ab":
            bench.start(make_attempt(work, mark))
        await bench.ended(2)
        bench.start(make_attempt(work, "c"))
        assert [o.payload for o in await bench.ended(3)] == [b'"cleana"', b'"cleanb"', b'"cleanc"']

    async def test_the_context_says_who_and_which_attempt(self, bench: ExecutionBench) -> None:
        seen: list[TaskContext] = []

        async def work(ctx: TaskContext, x: int) -> int:
            seen.append(ctx)
            return x

        outcome = await bench.run(work, 7, number=3, task_id="me")
        assert outcome.payload == b"7"
        nonce = outcome.attempt.nonce
        assert seen == [
            TaskContext(task_id="me", task="work", app="t", worker="w1", attempt=3, fencing_token=nonce, state=None)
        ]
        assert (seen[0].idempotency_key, seen[0].fencing_token) == ("me", nonce)

    async def test_nothing_is_kept_of_a_task_that_has_ended(self, bench: ExecutionBench) -> None:
        class Big:
            pass

        refs: list[weakref.ref[Big]] = []

        @bench.app.task(timeout=600)
        async def work() -> None:
            big = Big()
            refs.append(weakref.ref(big))
            await asyncio.sleep(0)

        for _ in range(500):
            bench.start(make_attempt(work))
        await bench.ended(500)
        bench.outcomes.clear()
        gc.collect()
        assert not any(ref() for ref in refs)


class TestStops:
    @pytest.mark.parametrize("reason", [StopReason.SHUTDOWN, StopReason.LEASE_LOST])
    @pytest.mark.parametrize("sync", [False, True])
    async def test_an_attempt_that_is_broken_off_says_nothing_of_its_task(
        self, bench: ExecutionBench, reason: StopReason, sync: bool
    ) -> None:
        release = threading.Event()

        def sync_work() -> None:
            release.wait(20)

        attempt = bench.start(make_attempt(bench.app.task(sync_work if sync else forever)))
        await asyncio.sleep(0)
        attempt.cancel(reason)
        try:
            outcome = (await bench.ended())[0]
            assert (outcome.status, outcome.payload, attempt.stop) == (None, b"", reason)
        finally:
            release.set()

    async def test_also_before_its_first_step(self, bench: ExecutionBench) -> None:
        ran = []

        async def work() -> None:
            ran.append(1)

        bench.start(make_attempt(bench.app.task(work)))
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        assert (await bench.ended())[0].status is None
        assert ran == []

    async def test_what_is_granted_after_the_break_off_does_not_begin(self, bench: ExecutionBench) -> None:
        ran = []

        async def work() -> None:
            ran.append(1)

        bench.executor.cancel_all(StopReason.SHUTDOWN)
        bench.start(make_attempt(bench.app.task(work)))
        assert (await bench.ended())[0].status is None
        assert ran == []

    async def test_the_first_reason_counts(self, bench: ExecutionBench) -> None:
        attempt = bench.start(make_attempt(bench.app.task(forever)))
        await asyncio.sleep(0)
        attempt.cancel(StopReason.LEASE_LOST)
        attempt.cancel(StopReason.TIMEOUT)
        assert (await bench.ended())[0].status is None

    async def test_a_task_that_swallows_its_cancellation_and_returns_has_succeeded(self, bench: ExecutionBench) -> None:
        async def work() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            return "late"

        outcome = await bench.run(work, timeout_s=0.02)
        assert (outcome.status, outcome.payload) == (S.SUCCESS, b'"late"')

    async def test_a_task_that_never_ends_does_not_keep_the_worker(self) -> None:
        bench = ExecutionBench()
        release = asyncio.Event()

        async def work() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        running = asyncio.create_task(bench.executor.run())
        await asyncio.sleep(0)
        bench.start(make_attempt(bench.app.task(work)))
        await asyncio.sleep(0)
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        bench.executor.stop()
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
        release.set()
        await bench.ended()
        assert done, "the executor waited for a task that does not end"

    async def test_idle_means_that_no_slot_is_taken_by_a_claim_on_its_way_either(self, bench: ExecutionBench) -> None:
        bench.slots.reserve(2)
        idle = asyncio.create_task(bench.slots.idle())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not idle.done(), "a worker that drains now would leave a lease behind"
        bench.slots.give_back(2)
        bench.start(make_attempt(bench.app.task(forever)))
        await asyncio.sleep(0)
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        await asyncio.wait_for(idle, 2)

    async def test_a_worker_that_ends_without_a_drain_fails_no_task(self) -> None:
        bench = ExecutionBench()
        running = asyncio.create_task(bench.executor.run())
        await asyncio.sleep(0)
        bench.start(make_attempt(bench.app.task(forever), retries=0))
        await asyncio.sleep(0)
        running.cancel()
        assert (await bench.ended())[0].status is None
        await asyncio.wait([running])


async def test_another_attempt_of_the_same_task_in_this_process_takes_its_place(bench: ExecutionBench) -> None:
    """The lease of the first was lost while the claim of the second was on its way."""
    task = bench.app.task(forever)
    first = bench.start(make_attempt(task, task_id="same", number=1))
    await asyncio.sleep(0)
    second = bench.start(make_attempt(task, task_id="same", number=2))
    outcome = (await bench.ended())[0]
    assert (outcome.attempt, outcome.status) == (first, None)
    assert bench.executor.running == {"same": second}
    bench.executor.cancel_all(StopReason.SHUTDOWN)
    await bench.ended(2)
