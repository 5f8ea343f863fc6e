"""How an attempt ended, and what an exception means for its task. No I/O."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from yadtq.errors import ConfigError, Discard, InvalidArguments, Retry, TaskTimeout
from yadtq.execution.attempt import StopReason
from yadtq.execution.raised import frames_of, message_of, traceback_of, type_name
from yadtq.execution.tasklog import log_failure
from yadtq.options import effective
from yadtq.retry import asks
from yadtq.wire.codec import decode, encode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from yadtq.execution.attempt import Attempt

__all__ = ["Outcome", "error_payload", "log_end", "outcome_of"]

_BROKEN_OFF = (StopReason.SHUTDOWN, StopReason.LEASE_LOST, StopReason.CHILD_DIED)


class Outcome(NamedTuple):
    """status: None if the attempt was cancelled for a reason outside the task (shutdown, lost lease).

    payload: the result, or the error as JSON. retry_in_s: for RETRYING. crash: a report that shows that it caused the
    death of its process: a dead letter is written before its end. misfit: the arguments don't fit the signature here; a
    worker with another version of the task may accept them.
    """

    attempt: Attempt
    status: TaskStatus | None
    payload: bytes = b""
    retry_in_s: float = 0.0
    crash: str = ""
    misfit: bool = False


def outcome_of(attempt: Attempt, error: BaseException, jitter: float) -> Outcome:
    """What an exception means for the task: another attempt, the end, or nothing. jitter: 0 to 1, of the
    back-off.

    Never raises: an exception is the task's own code (its `__str__`, its `delay`), and the slot depends on an outcome.
    """
    try:
        return _outcome(attempt, error, jitter)
    except BaseException as second:
        # Any exception: SystemExit from a `__str__` would end the worker, CancelledError would lose the outcome.
        problem = f"its error could not be read: {type_name(second)} while looking at it"
        log_failure(attempt, (type_name(error), problem), "", None)
        return Outcome(attempt, TaskStatus.FAILED, error_payload(type_name(error), problem))


def _outcome(attempt: Attempt, error: BaseException, jitter: float) -> Outcome:
    # The reason first: a task that raises another exception when it is cancelled was cancelled all the same.
    if attempt.stop in _BROKEN_OFF:
        return Outcome(attempt, None)
    rules = effective(attempt.task, attempt.envelope)
    if attempt.stop is StopReason.TIMEOUT and not asks(error, Discard, Retry):
        error = _late(error, rules.timeout_s or 0.0)
    failures = attempt.failures + 1
    # Arguments that don't fit won't fit the next time.
    try:
        delay = None if asks(error, InvalidArguments) else rules.retry.delay(failures, error, jitter)
    except BaseException as wrong:
        # Of a `Retry` with an unusable delay, which is the task's own code: an error of the task like any other. The
        # same number in `Retry(delay=...)` raises there, in the task.
        error = wrong
        delay = rules.retry.delay(failures, ConfigError(), jitter)
    name, message = type_name(error), message_of(error)
    trace = traceback_of(error)
    if delay is None and _is_of_another_version(attempt, error):
        return Outcome(attempt, TaskStatus.FAILED, error_payload(name, message, trace), misfit=True)
    if delay is None:
        log_failure(attempt, (name, message), trace, None)
        return Outcome(attempt, TaskStatus.FAILED, error_payload(name, message, trace))
    log_failure(attempt, (name, message), "" if asks(error, Retry) else trace, delay)
    return Outcome(attempt, TaskStatus.RETRYING, error_payload(name, message[:200]), delay)


def _is_of_another_version(attempt: Attempt, error: BaseException) -> bool:
    """Its arguments don't fit, and whoever submitted it had another signature."""
    task, theirs = attempt.task, attempt.envelope.fingerprint
    if task is None or theirs is None or not asks(error, InvalidArguments):
        return False
    return getattr(error, "task", None) == task.name and theirs != task.signature.fingerprint


def _late(error: BaseException, limit_s: float) -> TaskTimeout:
    late = TaskTimeout(f"it ran for longer than its timeout of {limit_s:g} s")
    if not issubclass(type(error), asyncio.CancelledError):
        late.__cause__ = error
    late.__traceback__ = frames_of(error)
    return late


def log_end(outcome: Outcome) -> None:
    """Of a misfit that has ended FAILED after all."""
    error = decode(outcome.payload)
    log_failure(outcome.attempt, (error["type"], error["message"]), error.get("traceback", ""), None)


def error_payload(name: str, message: str, trace: str = "") -> bytes:
    """An error as JSON, the way clients read it."""
    error = {"type": name, "message": message}
    if trace:
        error["traceback"] = trace
    # File names, for example, may contain bytes that are not text: they have no JSON form.
    return encode({key: text.encode(errors="backslashreplace").decode() for key, text in error.items()})
