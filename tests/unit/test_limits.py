"""Time limits of attempts: each at its own time, and of its own attempt only."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_attempt
from tests.support.execution import ExecutionBench, error_of, execution_bench, forever
from tests.support.poll import eventually
from yadtq.execution.attempt import StopReason
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bench() -> AsyncIterator[ExecutionBench]:
    async with execution_bench() as made:
        yield made


class TestTimeLimits:
    @pytest.mark.parametrize("own", [None, 0.05])
    async def test_an_async_task_is_cancelled(self, bench: ExecutionBench, own: float | None) -> None:
        cleaned = []

        @bench.app.task(timeout=0.05 if own is None else 60)
        async def work() -> None:
            try:
                await forever()
            finally:
                cleaned.append(1)

        bench.start(make_attempt(work, timeout_s=own))
        outcome = (await bench.ended())[0]
        assert (outcome.status, cleaned) == (S.FAILED, [1])
        assert error_of(outcome)["type"] == "TaskTimeout"
        assert "0.05 s" in error_of(outcome)["message"]

    async def test_a_time_out_is_retried_like_any_error(self, bench: ExecutionBench) -> None:
        assert (await bench.run(forever, timeout_s=0.02, retries=1)).status is S.RETRYING

    async def test_a_sync_task_is_left_to_itself_and_its_result_not_taken(self, bench: ExecutionBench) -> None:
        release = threading.Event()

        def work() -> int:
            release.wait(20)
            return 1

        try:
            outcome = await bench.run(work, timeout_s=0.05)
            assert error_of(outcome)["type"] == "TaskTimeout"
        finally:
            release.set()

    async def test_the_tasks_own_time_limits_are_its_own(self, bench: ExecutionBench) -> None:
        async def work() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await forever()
            except TimeoutError:
                return "went on"
            return "never"

        assert (await bench.run(work, timeout_s=20)).payload == b'"went on"'

    async def test_each_at_its_own_time(self, bench: ExecutionBench) -> None:
        task = bench.app.task(forever)
        for seconds in (0.2, 0.05, 30, 0.1):
            bench.start(make_attempt(task, timeout_s=seconds))
        outcomes = await bench.ended(3)
        assert [o.attempt.envelope.timeout_s for o in outcomes] == [0.05, 0.1, 0.2]
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        await bench.ended(4)

    async def test_limits_of_tasks_that_have_ended_are_forgotten(self, bench: ExecutionBench) -> None:
        @bench.app.task(timeout=600)
        async def work() -> None:
            pass

        for _ in range(50):
            for _ in range(100):
                bench.start(make_attempt(work))
            await eventually(lambda: not bench.executor.running, interval=0)
        assert len(bench.limits) < 500

    @pytest.mark.parametrize("nonsense", [float("nan"), float("inf")])
    async def test_a_limit_that_is_no_number_disturbs_nobody_elses(
        self, bench: ExecutionBench, nonsense: float
    ) -> None:
        # Any client may write it: JSON parsers take NaN.
        task = bench.app.task(forever)
        bench.start(make_attempt(task, timeout_s=nonsense, task_id="odd"))
        for seconds in (0.05, 0.02):
            bench.start(make_attempt(task, timeout_s=seconds))
        outcomes = await bench.ended(2)
        assert [o.attempt.envelope.timeout_s for o in outcomes] == [0.02, 0.05]
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        await bench.ended(3)
