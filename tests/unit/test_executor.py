"""One task's run: what its end means, and that whatever a task does hurts nobody but itself."""

from __future__ import annotations

import pytest

pytest.skip("being ported to the new parts", allow_module_level=True)

import asyncio
import contextlib
import contextvars
import functools
import gc
import json
import os
import threading
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_delivery
from tests.support.poll import eventually
from yadtq import Discard, Retry, TaskContext, Yadtq
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.delivery import StopReason
from yadtq.execution.executor import Executor
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings, WorkerSettings
from yadtq.testing import MemoryBroker, MemoryProducer
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.outcome import Outcome

DEAD = "yadtq.t.dead"


class Bench:
    """An executor, and what it hands over."""

    def __init__(self, settings: dict[str, Any] | None = None, **options: Any) -> None:
        self.app = Yadtq("t")
        self.broker = MemoryBroker()
        self.broker.create_topic(DEAD)
        self.outcomes: list[Outcome] = []
        self.freed = 0
        clock = SystemClock()
        self.executor = Executor(
            "t",
            "w1",
            Settings.load(**(settings or {})),
            WorkerSettings.load(**options),
            DeadLetters(DEAD, "w1", MemoryProducer(self.broker), clock),
            clock,
            self.outcomes.append,
            self._free,
        )

    def _free(self) -> None:
        self.freed += 1

    def start(self, delivery: Delivery) -> Delivery:
        self.executor.reserve(1)
        self.executor.start(delivery)
        return delivery

    async def ended(self, count: int = 1) -> list[Outcome]:
        await eventually(lambda: len(self.outcomes) >= count, what=f"{count} outcomes")
        return self.outcomes

    async def run(self, function: Callable[..., Any], *args: Any, **fields: Any) -> Outcome:
        """Of the only task."""
        self.start(make_delivery(self.app.task(function), *args, **fields))
        return (await self.ended())[0]


@asynccontextmanager
async def bench_with(settings: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Bench]:
    made = Bench(settings, **options)
    async with asyncio.timeout(30):
        running = asyncio.create_task(made.executor.run())
        await asyncio.sleep(0)
        yield made
        made.executor.stop()
        await running
    assert made.executor.running == {}
    assert made.executor.free == made.executor.concurrency, "every slot came back"
    assert made.executor.suspect is None


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with bench_with() as made:
        yield made


def error_of(outcome: Outcome) -> dict[str, str]:
    return json.loads(outcome.payload)


async def forever() -> None:
    await asyncio.Event().wait()


class TestSuccess:
    async def test_the_result_as_json_by_the_annotation(self, bench: Bench) -> None:
        async def addition(x: int, y: int) -> int:
            return x + y

        outcome = await bench.run(addition, 1, "2")
        assert (outcome.status, outcome.payload) == (S.SUCCESS, b"3"), "arguments are validated on arrival, too"
        assert bench.freed == 1
        await asyncio.wait_for(bench.executor.idle(), 1)

    async def test_keyword_arguments(self, bench: Bench) -> None:
        async def work(x: int, *, y: int = 0) -> int:
            return x - y

        assert (await bench.run(work, 1, kwargs={"y": 5})).payload == b"-4"

    async def test_a_sync_function_runs_in_a_thread_with_its_context_variables(self, bench: Bench) -> None:
        variable = contextvars.ContextVar("variable", default="unset")
        variable.set("of the caller")

        def work() -> list[str]:
            return [threading.current_thread().name, variable.get()]

        name, value = json.loads((await bench.run(work)).payload)
        assert name != threading.current_thread().name
        assert value == "of the caller"

    async def test_a_plain_decorator_around_an_async_function_is_awaited(self, bench: Bench) -> None:
        async def work() -> int:
            await asyncio.sleep(0)
            return 7

        @functools.wraps(work)
        def timed() -> Any:
            return work()

        assert (await bench.run(timed)).payload == b"7"

    async def test_context_variables_of_one_task_are_not_those_of_the_next(self, bench: Bench) -> None:
        variable = contextvars.ContextVar("variable", default="clean")

        @bench.app.task
        async def work(mark: str) -> str:
            before = variable.get()
            variable.set(mark)
            await asyncio.sleep(0)
            return before + variable.get()

        for mark in "ab":
            bench.start(make_delivery(work, mark))
        await bench.ended(2)
        bench.start(make_delivery(work, "c"))
        assert [o.payload for o in await bench.ended(3)] == [b'"cleana"', b'"cleanb"', b'"cleanc"']

    async def test_the_context_says_who_and_which_attempt(self, bench: Bench) -> None:
        seen: list[TaskContext] = []

        async def work(ctx: TaskContext, x: int) -> int:
            seen.append(ctx)
            return x

        outcome = await bench.run(work, 7, attempt=3, task_id="me")
        assert outcome.payload == b"7"
        nonce = outcome.delivery.nonce
        assert seen == [TaskContext("me", "work", "t", "w1", 3, nonce)]
        assert (seen[0].idempotency_key, seen[0].fencing_token) == ("me", nonce)

    async def test_nothing_is_kept_of_a_task_that_has_ended(self, bench: Bench) -> None:
        class Big:
            pass

        refs: list[weakref.ref[Big]] = []

        @bench.app.task(timeout=600)
        async def work() -> None:
            big = Big()
            refs.append(weakref.ref(big))
            await asyncio.sleep(0)

        for _ in range(500):
            bench.start(make_delivery(work))
        await bench.ended(500)
        bench.outcomes.clear()
        gc.collect()
        assert not any(ref() for ref in refs)


class TestFailure:
    @pytest.mark.parametrize("sync", [False, True])
    async def test_type_message_and_the_tasks_own_frames(self, bench: Bench, sync: bool) -> None:
        def work() -> None:
            raise ValueError("no such colour")

        async def async_work() -> None:
            work()

        outcome = await bench.run(work if sync else async_work)
        error = error_of(outcome)
        assert (outcome.status, error["type"], error["message"]) == (S.FAILED, "ValueError", "no such colour")
        frames = [line for line in error["traceback"].splitlines() if line.startswith("  File")]
        assert [frame.rpartition(" in ")[2] for frame in frames] == (["work"] if sync else ["async_work", "work"])

    @pytest.mark.parametrize("sync", [False, True])
    @pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
    async def test_nothing_that_a_task_raises_hurts_its_neighbours(
        self, bench: Bench, raised: type[BaseException], sync: bool
    ) -> None:
        @bench.app.task
        async def neighbour() -> int:
            await asyncio.sleep(0.05)
            return 1

        async def work() -> None:
            raise raised

        def sync_work() -> None:
            raise raised

        bench.start(make_delivery(neighbour))
        bench.start(make_delivery(bench.app.task(sync_work if sync else work)))
        outcomes = await bench.ended(2)
        assert {o.status for o in outcomes} == {S.SUCCESS, S.FAILED}
        assert error_of(next(o for o in outcomes if o.status is S.FAILED))["type"] == raised.__name__

    async def test_a_task_that_cancels_itself_has_failed(self, bench: Bench) -> None:
        async def work() -> None:
            task = asyncio.current_task()
            assert task
            task.cancel()
            await asyncio.sleep(1)

        assert error_of(await bench.run(work))["type"] == "CancelledError"

    async def test_an_error_that_can_not_even_be_printed(self, bench: Bench) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError("not even that")

        async def work() -> None:
            raise Broken

        outcome = await bench.run(work)
        assert (outcome.status, error_of(outcome)["type"]) == (S.FAILED, "Broken")

    @pytest.mark.parametrize("retries", [0, 1])
    async def test_a_message_that_is_not_unicode(self, bench: Bench, retries: int) -> None:
        async def work() -> None:
            raise FileNotFoundError(os.fsdecode(b"/tmp/\xff"))

        outcome = await bench.run(work, retries=retries)
        assert outcome.status is (S.RETRYING if retries else S.FAILED)
        assert error_of(outcome)["message"].startswith("/tmp/")

    async def test_a_message_of_megabytes_is_cut(self, bench: Bench) -> None:
        async def work() -> None:
            raise ValueError("x" * 5_000_000)

        outcome = await bench.run(work)
        assert outcome.status is S.FAILED
        assert len(outcome.payload) < 50_000

    async def test_a_wrong_return_type_fails_at_once_since_another_attempt_would_return_the_same(
        self, bench: Bench
    ) -> None:
        async def work() -> int:
            return "five"  # type: ignore[return-value]

        outcome = await bench.run(work, retries=5)
        assert outcome.status is S.FAILED
        assert "return annotation" in error_of(outcome)["message"]

    @pytest.mark.parametrize(("size", "status"), [(98, S.SUCCESS), (99, S.FAILED)])
    async def test_a_result_up_to_the_limit_and_not_a_byte_more(self, size: int, status: S) -> None:
        async with bench_with({"max_result_bytes": 100}) as bench:

            async def work(size: int) -> str:
                return "x" * size

            outcome = await bench.run(work, size, retries=5)
            assert outcome.status is status
            if status is S.FAILED:
                assert error_of(outcome)["type"] == "ResultTooLarge"

    async def test_arguments_that_do_not_fit_fail_without_a_call(self, bench: Bench) -> None:
        called = []

        async def work(x: int) -> None:
            called.append(x)

        outcome = await bench.run(work, "many", retries=5)
        assert (outcome.status, error_of(outcome)["type"], called) == (S.FAILED, "InvalidArguments", [])


class TestRetries:
    async def test_back_off_grows_with_the_failures_and_not_with_the_attempts(self, bench: Bench) -> None:
        @bench.app.task(retries=3, retry_base=1.0)
        async def work() -> None:
            raise ValueError("again")

        for failures in range(4):
            delivery = make_delivery(work, attempt=10)
            delivery.failures = failures
            bench.start(delivery)
        outcomes = sorted(await bench.ended(4), key=lambda o: o.delivery.failures)
        assert [o.status for o in outcomes] == [S.RETRYING] * 3 + [S.FAILED]
        for failures, outcome in enumerate(outcomes[:3]):
            assert 2**failures / 2 <= outcome.retry_in_s <= 2**failures
            assert error_of(outcome) == {"type": "ValueError", "message": "again"}

    async def test_the_submits_own_number_of_retries_wins(self, bench: Bench) -> None:
        @bench.app.task(retries=5)
        async def work() -> None:
            raise ValueError

        bench.start(make_delivery(work, retries=0))
        assert (await bench.ended())[0].status is S.FAILED

    async def test_a_task_may_name_the_delay(self, bench: Bench) -> None:
        async def work() -> None:
            raise Retry(delay=12.5)

        outcome = await bench.run(work, retries=1)
        assert (outcome.status, outcome.retry_in_s) == (S.RETRYING, 12.5)

    async def test_a_task_may_give_up(self, bench: Bench) -> None:
        async def work() -> None:
            raise Discard("no use")

        outcome = await bench.run(work, retries=9)
        assert (outcome.status, error_of(outcome)["message"]) == (S.FAILED, "no use")


class TestTimeLimits:
    @pytest.mark.parametrize("own", [None, 0.05])
    async def test_an_async_task_is_cancelled(self, bench: Bench, own: float | None) -> None:
        cleaned = []

        @bench.app.task(timeout=0.05 if own is None else 60)
        async def work() -> None:
            try:
                await forever()
            finally:
                cleaned.append(1)

        bench.start(make_delivery(work, timeout_s=own))
        outcome = (await bench.ended())[0]
        assert (outcome.status, cleaned) == (S.FAILED, [1])
        assert error_of(outcome)["type"] == "TaskTimeout"
        assert "0.05 s" in error_of(outcome)["message"]

    async def test_a_time_out_is_retried_like_any_error(self, bench: Bench) -> None:
        assert (await bench.run(forever, timeout_s=0.02, retries=1)).status is S.RETRYING

    async def test_a_sync_task_is_left_to_itself_and_its_result_not_taken(self, bench: Bench) -> None:
        release = threading.Event()

        def work() -> int:
            release.wait(20)
            return 1

        try:
            outcome = await bench.run(work, timeout_s=0.05)
            assert error_of(outcome)["type"] == "TaskTimeout"
        finally:
            release.set()

    async def test_the_tasks_own_time_limits_are_its_own(self, bench: Bench) -> None:
        async def work() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await forever()
            except TimeoutError:
                return "went on"
            return "never"

        assert (await bench.run(work, timeout_s=20)).payload == b'"went on"'

    async def test_each_at_its_own_time(self, bench: Bench) -> None:
        task = bench.app.task(forever)
        for seconds in (0.2, 0.05, 30, 0.1):
            bench.start(make_delivery(task, timeout_s=seconds))
        outcomes = await bench.ended(3)
        assert [o.delivery.envelope.timeout_s for o in outcomes] == [0.05, 0.1, 0.2]
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        await bench.ended(4)

    async def test_limits_of_tasks_that_have_ended_are_forgotten(self, bench: Bench) -> None:
        @bench.app.task(timeout=600)
        async def work() -> None:
            pass

        for _ in range(50):
            for _ in range(100):
                bench.start(make_delivery(work))
            await eventually(lambda: not bench.executor.running, interval=0)
        assert len(bench.executor._timeouts) < 500

    @pytest.mark.parametrize("nonsense", [float("nan"), float("inf")])
    async def test_a_limit_that_is_no_number_disturbs_nobody_elses(self, bench: Bench, nonsense: float) -> None:
        # Any client may write it: JSON parsers take NaN.
        task = bench.app.task(forever)
        bench.start(make_delivery(task, timeout_s=nonsense, task_id="odd"))
        for seconds in (0.05, 0.02):
            bench.start(make_delivery(task, timeout_s=seconds))
        outcomes = await bench.ended(2)
        assert [o.delivery.envelope.timeout_s for o in outcomes] == [0.02, 0.05]
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        await bench.ended(3)


class TestStops:
    @pytest.mark.parametrize("reason", [StopReason.SHUTDOWN, StopReason.LEASE_LOST])
    @pytest.mark.parametrize("sync", [False, True])
    async def test_an_attempt_that_is_broken_off_says_nothing_of_its_task(
        self, bench: Bench, reason: StopReason, sync: bool
    ) -> None:
        release = threading.Event()

        def sync_work() -> None:
            release.wait(20)

        delivery = bench.start(make_delivery(bench.app.task(sync_work if sync else forever)))
        await asyncio.sleep(0)
        bench.executor.cancel(delivery, reason)
        try:
            outcome = (await bench.ended())[0]
            assert (outcome.status, outcome.payload, delivery.stop_reason) == (None, b"", reason)
        finally:
            release.set()

    async def test_also_before_its_first_step(self, bench: Bench) -> None:
        ran = []

        async def work() -> None:
            ran.append(1)

        bench.start(make_delivery(bench.app.task(work)))
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        assert (await bench.ended())[0].status is None
        assert ran == []

    async def test_what_is_granted_after_the_break_off_does_not_begin(self, bench: Bench) -> None:
        ran = []

        async def work() -> None:
            ran.append(1)

        bench.executor.reserve(1)
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        bench.executor.start(make_delivery(bench.app.task(work)))
        assert (await bench.ended())[0].status is None
        assert ran == []

    async def test_the_first_reason_counts(self, bench: Bench) -> None:
        delivery = bench.start(make_delivery(bench.app.task(forever)))
        await asyncio.sleep(0)
        bench.executor.cancel(delivery, StopReason.LEASE_LOST)
        bench.executor.cancel(delivery, StopReason.TIMEOUT)
        assert (await bench.ended())[0].status is None

    async def test_a_task_that_swallows_its_cancellation_and_returns_has_succeeded(self, bench: Bench) -> None:
        async def work() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            return "late"

        outcome = await bench.run(work, timeout_s=0.02)
        assert (outcome.status, outcome.payload) == (S.SUCCESS, b'"late"')

    async def test_a_task_that_never_ends_does_not_keep_the_worker(self) -> None:
        bench = Bench()
        release = asyncio.Event()

        async def work() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        running = asyncio.create_task(bench.executor.run())
        await asyncio.sleep(0)
        bench.start(make_delivery(bench.app.task(work)))
        await asyncio.sleep(0)
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        bench.executor.stop()
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
        release.set()
        await bench.ended()
        assert done, "the executor waited for a task that does not end"

    async def test_idle_means_that_no_slot_is_taken_by_a_claim_on_its_way_either(self, bench: Bench) -> None:
        bench.executor.reserve(2)
        idle = asyncio.create_task(bench.executor.idle())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not idle.done(), "a worker that drains now would leave a lease behind"
        bench.executor.unreserve(1)
        bench.executor.start(make_delivery(bench.app.task(forever)))
        await asyncio.sleep(0)
        bench.executor.cancel_all(StopReason.SHUTDOWN)
        await asyncio.wait_for(idle, 2)

    async def test_a_worker_that_ends_without_a_drain_fails_no_task(self) -> None:
        bench = Bench()
        running = asyncio.create_task(bench.executor.run())
        await asyncio.sleep(0)
        bench.start(make_delivery(bench.app.task(forever), retries=0))
        await asyncio.sleep(0)
        running.cancel()
        assert (await bench.ended())[0].status is None
        await asyncio.wait([running])


class TestDeadLetters:
    async def test_an_unknown_name(self, bench: Bench) -> None:
        delivery = bench.start(make_delivery(None, name="nobody", task_id="me"))
        outcome = (await bench.ended())[0]
        assert (outcome.status, error_of(outcome)["type"]) == (S.FAILED, "UnknownTask")
        (letter,) = bench.broker.records(DEAD)
        assert letter.value == delivery.record.value
        headers = dict(letter.headers)
        assert (headers["yadtq-reason"], headers["yadtq-task-id"], headers["yadtq-task"]) == (
            b"unknown-task",
            b"me",
            b"nobody",
        )

    async def test_a_task_that_has_ended_so_many_workers_is_not_run_again(self) -> None:
        async with bench_with(crash_limit=3) as bench:
            ran = []

            @bench.app.task
            async def work() -> None:
                ran.append(1)

            delivery = make_delivery(work)
            delivery.crashes = 3
            bench.start(delivery)
            outcome = (await bench.ended())[0]
            assert (outcome.status, error_of(outcome)["type"], ran) == (S.FAILED, "WorkerCrashed", [])
            assert dict(bench.broker.records(DEAD)[0].headers)["yadtq-reason"] == b"crashed"

    async def test_one_crash_less_and_it_runs_as_a_suspect(self) -> None:
        async with bench_with(crash_limit=3) as bench:
            delivery = make_delivery(bench.app.task(forever))
            delivery.crashes = 2
            bench.start(delivery)
            assert bench.executor.suspect is delivery
            bench.executor.cancel_all(StopReason.SHUTDOWN)
            await bench.ended()

    async def test_the_letter_waits_for_kafka_and_the_outcome_for_the_letter(self, bench: Bench) -> None:
        bench.broker.down = True
        bench.start(make_delivery(None))
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.outcomes == []
        bench.broker.down = False
        await bench.ended()
        assert len(bench.broker.records(DEAD)) == 1


async def test_another_attempt_of_the_same_task_in_this_process_takes_its_place(bench: Bench) -> None:
    """The lease of the first was lost while the claim of the second was on its way."""
    task = bench.app.task(forever)
    first = bench.start(make_delivery(task, task_id="same", attempt=1))
    await asyncio.sleep(0)
    second = bench.start(make_delivery(task, task_id="same", attempt=2))
    outcome = (await bench.ended())[0]
    assert (outcome.delivery, outcome.status) == (first, None)
    assert bench.executor.running == {"same": second}
    bench.executor.cancel_all(StopReason.SHUTDOWN)
    await bench.ended(2)
