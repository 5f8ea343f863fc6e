"""What tasks do, in the log: how each attempt failed, its start and end if wanted, and whose line a line is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from yadtq.execution.running import RUNNING
from yadtq.runtime.logs import marked
from yadtq.shown import shown

if TYPE_CHECKING:
    from yadtq.context import TaskContext
    from yadtq.execution.attempt import Attempt
    from yadtq.execution.chain import Inner

__all__ = ["log_calls", "log_failure", "mark_records"]

log = logging.getLogger("yadtq.task")


def log_failure(attempt: Attempt, error: tuple[str, str], trace: str, retry_in_s: float | None) -> None:
    """error: its type and its message. trace: without a line end; "" if it says nothing. retry_in_s: None: it has ended
    FAILED.
    """
    name, message = error
    words = f"{_who(attempt)} failed: {shown(name)}: {shown(message)}"
    level = logging.ERROR
    if retry_in_s is not None:
        level, words = logging.WARNING, f"{words}; next attempt in {retry_in_s:.1f} s"
    if not log.isEnabledFor(level):
        return
    # The exception itself stays out of the record: handlers would run its code, and it keeps its frames alive.
    record = log.makeRecord(log.name, level, __file__, 0, "%s", (words,), None)
    record.exc_text = marked(trace) or None
    with contextlib.suppress(Exception):  # a task may have closed stderr, which changes nothing about its outcome
        log.handle(record)


async def log_calls(ctx: TaskContext[Any], call: Inner) -> Any:
    """`chain.Middleware`: a line at the start and one at the end of each call."""
    clock = asyncio.get_running_loop().time
    who, started = f"{shown(ctx.task)} {shown(ctx.task_id)}, attempt {ctx.attempt},", clock()
    log.info("%s starts", who)
    how = "is stopped"
    try:
        result = await call()
        how = "returns"
        return result
    except Exception:  # raised again; a cancellation is no failure
        how = "raises"
        raise
    finally:
        log.info("%s %s after %.3f s", who, how, clock() - started)


def mark_records() -> None:
    """In this process every log record says whose it is: `yadtq_task`, `yadtq_id`, `yadtq_attempt`.

    Empty, and 0, outside of tasks. The names begin like that because `extra={"task_id": ...}` must still be possible.
    """
    make = logging.getLogRecordFactory()

    def with_task(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        attempt = RUNNING.get()
        if attempt is None:
            record.yadtq_task, record.yadtq_id, record.yadtq_attempt = "", "", 0
        else:
            envelope = attempt.envelope
            record.yadtq_task, record.yadtq_id, record.yadtq_attempt = envelope.task, envelope.id, attempt.number
        return record

    logging.setLogRecordFactory(with_task)


def _who(attempt: Attempt) -> str:
    return f"{shown(attempt.envelope.task)} {shown(attempt.envelope.id)}, attempt {attempt.number},"
