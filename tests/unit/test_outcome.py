"""What the end of an attempt means for its task, and that whatever a task does hurts nobody but itself."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.apps import make_attempt
from tests.support.execution import ExecutionBench, error_of, execution_bench, forever
from yadtq import Discard, Retry, Yadtq
from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import outcome_of
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def bench() -> AsyncIterator[ExecutionBench]:
    async with execution_bench() as made:
        yield made


class TestFailure:
    @pytest.mark.parametrize("sync", [False, True])
    async def test_type_message_and_the_tasks_own_frames(self, bench: ExecutionBench, sync: bool) -> None:
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
        self, bench: ExecutionBench, raised: type[BaseException], sync: bool
    ) -> None:
        @bench.app.task
        async def neighbour() -> int:
            await asyncio.sleep(0.05)
            return 1

        async def work() -> None:
            raise raised

        def sync_work() -> None:
            raise raised

        bench.start(make_attempt(neighbour))
        bench.start(make_attempt(bench.app.task(sync_work if sync else work)))
        outcomes = await bench.ended(2)
        assert {o.status for o in outcomes} == {S.SUCCESS, S.FAILED}
        assert error_of(next(o for o in outcomes if o.status is S.FAILED))["type"] == raised.__name__

    async def test_a_task_that_cancels_itself_has_failed(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            task = asyncio.current_task()
            assert task
            task.cancel()
            await asyncio.sleep(1)

        assert error_of(await bench.run(work))["type"] == "CancelledError"

    async def test_an_error_that_can_not_even_be_printed(self, bench: ExecutionBench) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError("not even that")

        async def work() -> None:
            raise Broken

        outcome = await bench.run(work)
        assert (outcome.status, error_of(outcome)["type"]) == (S.FAILED, "Broken")

    @pytest.mark.parametrize("retries", [0, 1])
    async def test_a_message_that_is_not_unicode(self, bench: ExecutionBench, retries: int) -> None:
        async def work() -> None:
            raise FileNotFoundError(os.fsdecode(b"/tmp/\xff"))

        outcome = await bench.run(work, retries=retries)
        assert outcome.status is (S.RETRYING if retries else S.FAILED)
        assert error_of(outcome)["message"].startswith("/tmp/")

    async def test_a_message_of_megabytes_is_cut(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise ValueError("x" * 5_000_000)

        outcome = await bench.run(work)
        assert outcome.status is S.FAILED
        assert len(outcome.payload) < 50_000

    async def test_a_wrong_return_type_fails_at_once_since_another_attempt_would_return_the_same(
        self, bench: ExecutionBench
    ) -> None:
        async def work() -> int:
            return "five"  # type: ignore[return-value]

        outcome = await bench.run(work, retries=5)
        assert outcome.status is S.FAILED
        assert "return annotation" in error_of(outcome)["message"]

    @pytest.mark.parametrize(("size", "status"), [(98, S.SUCCESS), (99, S.FAILED)])
    async def test_a_result_up_to_the_limit_and_not_a_byte_more(self, size: int, status: S) -> None:
        async with execution_bench(max_result_bytes=100) as bench:

            async def work(size: int) -> str:
                return "x" * size

            outcome = await bench.run(work, size, retries=5)
            assert outcome.status is status
            if status is S.FAILED:
                assert error_of(outcome)["type"] == "ResultTooLarge"

    async def test_arguments_that_do_not_fit_fail_without_a_call(self, bench: ExecutionBench) -> None:
        called = []

        async def work(x: int) -> None:
            called.append(x)

        outcome = await bench.run(work, "many", retries=5)
        assert (outcome.status, error_of(outcome)["type"], called) == (S.FAILED, "InvalidArguments", [])


def syntax_error() -> BaseException:
    return SyntaxError("no", ("file", 1, 1, b"text", 1, 2))  # type: ignore[arg-type]


class Careless(Retry):
    def __init__(self) -> None:
        pass


def raising(kind: type[BaseException]) -> type[BaseException]:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise kind

    return Unprintable


def hiding(attribute: str) -> type[BaseException]:
    """An exception that raises when this attribute is read."""

    def refuse(self: object) -> None:
        raise RuntimeError("hands off")

    return type("Hiding", (Exception,), {attribute: property(refuse)})


def hiding_group() -> BaseException:
    return type("Hiding", (ExceptionGroup,), {"exceptions": property(lambda self: 1 / 0)})("g", [ValueError("inside")])


class Anonymous(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("nobody")


class Nameless(Exception, metaclass=Anonymous):
    pass


class NoText(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Text(str):
    def __getitem__(self, key: object) -> str:
        raise RuntimeError("not for slicing")

    __str__ = __format__ = encode = __getitem__  # type: ignore[assignment]


class OddText(Exception):
    def __str__(self) -> str:
        return Text("odd")


def cycle() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def chain() -> BaseException:
    error = first = ValueError("first")
    for _ in range(100_000):
        error.__context__ = ValueError("next")
        error = error.__context__
    return first


def deep_group() -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(5_000):
        error = ExceptionGroup("outer", [error])
    return error


def wide_group() -> BaseException:
    return ExceptionGroup("all", [ValueError(n) for n in range(200_000)])


def own_cause() -> BaseException:
    error = ValueError("its own cause")
    error.__cause__ = error
    return error


class BadDelay(Retry):
    @property
    def delay(self) -> float:
        raise SystemExit

    @delay.setter
    def delay(self, value: object) -> None: ...


MAKERS: list[Callable[[], BaseException]] = [
    syntax_error,
    raising(RuntimeError),
    raising(asyncio.CancelledError),
    raising(SystemExit),
    raising(KeyboardInterrupt),
    raising(RecursionError),
    *(
        hiding(name)
        for name in (
            "__class__",
            "__traceback__",
            "__cause__",
            "__context__",
            "__suppress_context__",
            "__notes__",
            "args",
        )
    ),
    hiding("__dict__"),
    hiding_group,
    lambda: Nameless(),
    NoText,
    OddText,
    cycle,
    own_cause,
    chain,
    deep_group,
    wide_group,
    BadDelay,
    lambda: type("\ud800" * 5, (Exception,), {})("\ud800"),
    lambda: type("N" * 1_000_000, (Exception,), {})("N" * 1_000_000),
    lambda: StopIteration(3),
    lambda: StopAsyncIteration(3),
    lambda: BaseExceptionGroup("stop", [SystemExit(1), KeyboardInterrupt()]),
]


class TestWhatCanNotBeDigested:
    """An exception is the task's own code. Whatever it is made of, the slot comes back and the task has an end."""

    @pytest.mark.parametrize("sync", [False, True])
    @pytest.mark.parametrize("retries", [0, 1])
    @pytest.mark.parametrize("make", MAKERS, ids=map(str, range(len(MAKERS))))
    async def test_it_is_an_error_like_any_other(
        self, bench: ExecutionBench, make: Callable[[], BaseException], sync: bool, retries: int
    ) -> None:
        def work() -> None:
            raise make()

        async def async_work() -> None:
            work()

        outcome = await bench.run(work if sync else async_work, retries=retries)
        assert outcome.status is (S.RETRYING if retries else S.FAILED)
        assert bench.free_then == [bench.slots.total]
        assert len(outcome.payload) < 50_000
        assert "could not be read" not in error_of(outcome)["message"]

    @pytest.mark.parametrize("make", MAKERS[:6])
    async def test_and_has_its_name(self, bench: ExecutionBench, make: Callable[[], BaseException]) -> None:
        async def work() -> None:
            raise make()

        assert error_of(await bench.run(work))["type"] == type(make()).__name__

    @pytest.mark.parametrize("delay", [timedelta(seconds=1), "1", float("inf"), float("nan"), -1, Decimal("0.1"), 1e17])
    @pytest.mark.parametrize("set_later", [False, True])
    @pytest.mark.parametrize("retries", [0, 3])
    async def test_a_delay_that_is_none_is_an_error_of_the_task_like_any_other(
        self, bench: ExecutionBench, delay: Any, set_later: bool, retries: int
    ) -> None:
        async def work() -> None:
            if not set_later:
                raise Retry(delay=delay)
            retry = Retry()
            retry.delay = delay
            raise retry

        outcome = await bench.run(work, retries=retries)
        status = S.RETRYING if retries else S.FAILED
        assert (outcome.status, error_of(outcome)["type"]) == (status, "ConfigError")
        assert "seconds" in error_of(outcome)["message"]
        assert not retries or 0.5 <= outcome.retry_in_s <= 1.0

    async def test_a_retry_that_forgets_its_base_takes_the_back_off(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise Careless

        outcome = await bench.run(work, retries=1)
        assert outcome.status is S.RETRYING
        assert 0.5 <= outcome.retry_in_s <= 1.0

    async def test_a_log_that_can_not_be_written_is_no_reason_to_fail(self, bench: ExecutionBench) -> None:
        """As after a task that has closed stderr."""

        class Broken(logging.Handler):
            def handle(self, record: logging.LogRecord) -> bool:
                raise ValueError("I/O operation on closed file")

        async def work() -> None:
            raise ValueError

        handler, log = Broken(), logging.getLogger("yadtq.worker")
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            assert (await bench.run(work, retries=1)).status is S.RETRYING
        finally:
            log.removeHandler(handler)
            log.setLevel(level)

    @pytest.mark.parametrize("stop", [StopReason.SHUTDOWN, StopReason.LEASE_LOST])
    @pytest.mark.parametrize("raised", [RuntimeError, Retry, Discard, SystemExit, raising(SystemExit)])
    async def test_what_a_broken_off_one_raises_says_nothing(
        self, bench: ExecutionBench, stop: StopReason, raised: type[BaseException]
    ) -> None:
        async def work() -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                raise raised from None

        attempt = bench.start(make_attempt(bench.app.task(work)))
        await asyncio.sleep(0)
        attempt.cancel(stop)
        outcome = (await bench.ended())[0]
        assert (outcome.status, outcome.payload) == (None, b"")

    @given(delay=st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.booleans()))
    def test_a_delay_on_its_way_to_redis_is_always_a_sane_number(self, delay: Any) -> None:
        @Yadtq("t").task(retries=3)
        async def work() -> None: ...

        error = Retry()
        error.delay = delay
        outcome = outcome_of(make_attempt(work), error, 0.5)
        assert 0 <= int(outcome.retry_in_s * 1000) <= 366 * 86_400_000
        if outcome.status is not S.RETRYING:
            assert outcome.retry_in_s == 0


class TestGroups:
    """As a TaskGroup raises them."""

    async def test_a_retry_in_a_group_counts(self, bench: ExecutionBench) -> None:
        async def child() -> None:
            raise Retry(delay=2)

        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())

        outcome = await bench.run(work, retries=1)
        assert (outcome.status, outcome.retry_in_s) == (S.RETRYING, 2.0)

    async def test_and_a_discard_wins(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise ExceptionGroup("both", [Retry(delay=2), ExceptionGroup("inner", [Discard("no use")])])

        assert (await bench.run(work, retries=5)).status is S.FAILED

    @pytest.mark.parametrize("raised", [Retry(delay=2), Discard("no use")], ids=["retry", "discard"])
    @pytest.mark.parametrize("grouped", [False, True])
    async def test_what_is_asked_for_at_the_time_out_counts(
        self, bench: ExecutionBench, raised: Exception, grouped: bool
    ) -> None:
        async def work() -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                raise (ExceptionGroup("at the end", [ValueError(), raised]) if grouped else raised) from None

        outcome = await bench.run(work, retries=3, timeout_s=0.05)
        if isinstance(raised, Retry):
            assert (outcome.status, outcome.retry_in_s) == (S.RETRYING, 2.0)
        else:
            assert outcome.status is S.FAILED
            assert error_of(outcome)["type"] == ("ExceptionGroup" if grouped else "Discard")


class TestRetries:
    async def test_back_off_grows_with_the_failures_and_not_with_the_attempts(self, bench: ExecutionBench) -> None:
        @bench.app.task(retries=3, retry_base=1.0)
        async def work() -> None:
            raise ValueError("again")

        for failures in range(4):
            bench.start(make_attempt(work, number=10, failures=failures))
        outcomes = sorted(await bench.ended(4), key=lambda o: o.attempt.failures)
        assert [o.status for o in outcomes] == [S.RETRYING] * 3 + [S.FAILED]
        for failures, outcome in enumerate(outcomes[:3]):
            assert 2**failures / 2 <= outcome.retry_in_s <= 2**failures
            assert error_of(outcome) == {"type": "ValueError", "message": "again"}

    async def test_the_submits_own_number_of_retries_wins(self, bench: ExecutionBench) -> None:
        @bench.app.task(retries=5)
        async def work() -> None:
            raise ValueError

        bench.start(make_attempt(work, retries=0))
        assert (await bench.ended())[0].status is S.FAILED

    async def test_a_task_may_name_the_delay(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise Retry(delay=12.5)

        outcome = await bench.run(work, retries=1)
        assert (outcome.status, outcome.retry_in_s) == (S.RETRYING, 12.5)

    async def test_a_task_may_give_up(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise Discard("no use")

        outcome = await bench.run(work, retries=9)
        assert (outcome.status, error_of(outcome)["message"]) == (S.FAILED, "no use")

    async def test_one_that_is_asked_for_is_granted_without_retries(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise Retry(delay=1)

        assert (await bench.run(work, retries=0)).status is S.RETRYING

    async def test_but_not_for_ever(self, bench: ExecutionBench) -> None:
        async def work() -> None:
            raise Retry(delay=1)

        assert (await bench.run(work, retries=0, failures=100)).status is S.FAILED
