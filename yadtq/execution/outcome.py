"""How an attempt ended, and what an exception means for its task. No I/O."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio

from yadtq.errors import ConfigError, Discard, InvalidArguments, Retry, TaskTimeout
from yadtq.execution.attempt import StopReason
from yadtq.options import effective
from yadtq.wire.codec import encode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from yadtq.execution.attempt import Attempt

__all__ = ["Outcome", "error_payload", "outcome_of"]

log = logging.getLogger("yadtq.worker")

_TRACEBACK_CHARS = 8_000
_MESSAGE_CHARS = 4_000
#: Folders whose frames are between the worker and the task's own.
_MACHINERY = (str(Path(__file__).parent), str(Path(anyio.__file__).parent))
_BROKEN_OFF = (StopReason.SHUTDOWN, StopReason.LEASE_LOST, StopReason.CHILD_DIED)


class Outcome(NamedTuple):
    """status: None if the attempt was cancelled for a reason outside the task (shutdown, lost lease).

    payload: the result, or the error as JSON. retry_in_s: for RETRYING. crash: a report that shows that it caused the
    death of its process: a dead letter is written before its end.
    """

    attempt: Attempt
    status: TaskStatus | None
    payload: bytes = b""
    retry_in_s: float = 0.0
    crash: str = ""


def outcome_of(attempt: Attempt, error: BaseException, jitter: float) -> Outcome:
    """What an exception means for the task: another attempt, the end, or nothing. jitter: 0 to 1, of the
    back-off.

    Never raises: an exception is the task's own code (its `__str__`, its `delay`), and the slot depends on an outcome.
    """
    try:
        return _outcome(attempt, error, jitter)
    except BaseException as second:
        # Any exception: SystemExit from a `__str__` would end the worker, CancelledError would lose the outcome.
        name = type(error).__name__
        problem = f"its error could not be read: {type(second).__name__} while looking at it"
        return Outcome(attempt, TaskStatus.FAILED, error_payload(name, problem))


def _outcome(attempt: Attempt, error: BaseException, jitter: float) -> Outcome:
    # The reason first: a task that raises another exception when it is cancelled was cancelled all the same.
    if attempt.stop in _BROKEN_OFF:
        return Outcome(attempt, None)
    rules = effective(attempt.task, attempt.envelope)
    if attempt.stop is StopReason.TIMEOUT and not isinstance(error, Discard | Retry):
        limit_s = rules.timeout_s or 0.0
        late = TaskTimeout(f"it ran for longer than its timeout of {limit_s:g} s")
        if not isinstance(error, asyncio.CancelledError):
            late.__cause__ = error
        late.__traceback__ = error.__traceback__
        error = late
    name, message, text = type(error).__name__, _message(error), _traceback(error)
    # Arguments that don't fit won't fit the next time.
    try:
        delay = None if isinstance(error, InvalidArguments) else rules.retry.delay(attempt.failures + 1, error, jitter)
    except ConfigError as wrong:
        return Outcome(attempt, TaskStatus.FAILED, error_payload("ConfigError", str(wrong), text))
    if delay is None:
        return Outcome(attempt, TaskStatus.FAILED, error_payload(name, message, text))
    with contextlib.suppress(Exception):  # a task may have closed stderr, which is no reason to fail it permanently
        log.info("%r failed (%s: %s), next in %.1f s", attempt, name, message, delay)
    return Outcome(attempt, TaskStatus.RETRYING, error_payload(name, message[:200]), delay)


def error_payload(name: str, message: str, trace: str = "") -> bytes:
    """An error as JSON, the way clients read it."""
    error = {"type": name, "message": message}
    if trace:
        error["traceback"] = trace
    # File names, for example, may contain bytes that are not text: they have no JSON form.
    return encode({key: text.encode(errors="backslashreplace").decode() for key, text in error.items()})


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE_CHARS]
    except BaseException as broken:  # also SystemExit and CancelledError: it is only a message
        return f"(its message raised {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    """The task's own frames, without those of YADTQ; of a long traceback the end is kept."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_MACHINERY):
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frames))[-_TRACEBACK_CHARS:]
    except BaseException as broken:  # a SyntaxError whose text is bytes, for example: then use the frames alone
        lines = traceback.format_tb(frames)
        return "".join([*lines, f"(the error could not be formatted: {type(broken).__name__})"])[-_TRACEBACK_CHARS:]
