"""What a task does is seen in the log."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.assembled import assembled
from yadtq import Discard, Retry, Yadtq
from yadtq.cli import dev
from yadtq.errors import TaskFailed
from yadtq.execution.tasklog import mark_records
from yadtq.runtime.logs import OneLine
from yadtq.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

user_log = logging.getLogger("shop.mail")


async def run(function: Callable[..., Any], task_options: dict[str, Any] | None = None, **options: Any) -> None:
    app = Yadtq("t")
    app.task(**{"name": "work", **(task_options or {})})(function)
    async with assembled(app, **options) as made:
        made.submit("work", task_id="a1")
        await made.ended("a1")


def lines(caplog: pytest.LogCaptureFixture, name: str = "yadtq.task") -> list[tuple[str, str]]:
    """Level, and message with its traceback."""
    found = [record for record in caplog.records if record.name == name]
    return [(each.levelname, "\n".join(filter(None, (each.getMessage(), each.exc_text)))) for each in found]


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class TestFailures:
    @pytest.mark.parametrize("kind", ["async", "sync"])
    async def test_the_end_is_an_error_with_its_traceback(self, caplog: pytest.LogCaptureFixture, kind: str) -> None:
        async def breaks() -> None:
            raise ValueError("no such\norder")

        def breaks_in_thread() -> None:
            raise ValueError("no such\norder")

        await run(breaks if kind == "async" else breaks_in_thread)
        ((level, text),) = lines(caplog)
        assert level == "ERROR"
        assert text.startswith("work a1, attempt 1, failed: ValueError: no such\\norder\n| Traceback")
        assert f"in breaks{'' if kind == 'async' else '_in_thread'}" in text

    async def test_a_retry_is_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        async def breaks() -> None:
            raise ValueError("no")

        await run(breaks, {"retries": 1, "retry_base": 0.0})
        (first, words), (last, _) = lines(caplog)
        assert (first, last) == ("WARNING", "ERROR")
        assert "attempt 1, failed: ValueError: no; next attempt in 0.0 s\n| Traceback" in words

    async def test_what_a_task_asks_for_needs_no_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        async def asks() -> None:
            if len(lines(caplog)) == 0:
                raise Retry("not ready", delay=0)
            raise Discard("never")

        await run(asks, {"retries": 1})
        assert lines(caplog)[0] == ("WARNING", "work a1, attempt 1, failed: Retry: not ready; next attempt in 0.0 s")
        assert lines(caplog)[1][0] == "ERROR"

    async def test_wrong_arguments_too(self, caplog: pytest.LogCaptureFixture) -> None:
        async def takes(n: int) -> None: ...

        await run(takes)
        assert "InvalidArguments" in lines(caplog)[0][1]

    async def test_a_success_says_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        async def works() -> None: ...

        await run(works)
        assert lines(caplog) == []


class TestCalls:
    async def test_each_start_and_end_is_a_line_if_wanted(self, caplog: pytest.LogCaptureFixture) -> None:
        async def works() -> None: ...

        await run(works, log_tasks=True)
        (_, start), (_, end) = lines(caplog)
        assert start == "work a1, attempt 1, starts"
        assert end.startswith("work a1, attempt 1, returns after 0.0")

    async def test_also_of_one_that_raises_or_is_stopped(self, caplog: pytest.LogCaptureFixture) -> None:
        import asyncio

        async def breaks() -> None:
            raise ValueError

        async def hangs() -> None:
            await asyncio.Event().wait()

        await run(breaks, log_tasks=True)
        await run(hangs, {"timeout": 0.01}, log_tasks=True)
        ends = [text.split(",")[2].split(" after")[0].strip() for level, text in lines(caplog) if " after " in text]
        assert ends == ["raises", "is stopped"]


class TestDev:
    def test_sets_it_unless_the_user_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("YADTQ_WORKER_LOG_TASKS", raising=False)
        assert dev._worker_environment() == {"YADTQ_WORKER_LOG_TASKS": "true"}
        assert not WorkerSettings.load().log_tasks
        monkeypatch.setenv("YADTQ_WORKER_LOG_TASKS", "false")
        assert dev._worker_environment() == {}


class TestMarks:
    @pytest.fixture(autouse=True)
    def marked(self) -> Iterator[None]:
        before = logging.getLogRecordFactory()
        mark_records()
        yield
        logging.setLogRecordFactory(before)

    @pytest.mark.parametrize("kind", ["async", "sync"])
    async def test_a_line_of_a_task_says_whose_it_is(self, caplog: pytest.LogCaptureFixture, kind: str) -> None:
        async def speaks() -> None:
            user_log.info("sent", extra={"task_id": "mine"})

        def speaks_in_thread() -> None:
            user_log.info("sent", extra={"task_id": "mine"})

        await run(speaks if kind == "async" else speaks_in_thread)
        (record,) = [record for record in caplog.records if record.name == "shop.mail"]
        marks: Any = record
        assert (marks.yadtq_task, marks.yadtq_id, marks.yadtq_attempt, marks.task_id) == ("work", "a1", 1, "mine")
        assert OneLine("%(name)s: %(message)s").format(record) == "shop.mail: [work a1 1] sent"

    def test_others_have_no_mark(self, caplog: pytest.LogCaptureFixture) -> None:
        user_log.info("started")
        assert OneLine("%(message)s").format(caplog.records[0]) == "started"
        assert caplog.records[0].yadtq_attempt == 0  # type: ignore[attr-defined]


def test_a_failure_that_nobody_catches_shows_the_remote_traceback() -> None:
    error = TaskFailed("a", "ValueError", "no", "Traceback ...\n  in charge\nValueError: no\n", 2)
    shown = "".join(traceback.format_exception(error))
    assert "\n" not in str(error)
    assert shown.endswith("in the worker, on attempt 2:\nTraceback ...\n  in charge\nValueError: no\n")
    assert not hasattr(TaskFailed("a", "ValueError", "no"), "__notes__")
