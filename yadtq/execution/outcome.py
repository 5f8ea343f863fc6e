"""How an attempt ended, and what an exception means for its task. No I/O."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio

from yadtq.delivery.delivery import StopReason
from yadtq.errors import InvalidArguments, TaskTimeout
from yadtq.wire.codec import encode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from yadtq.delivery.delivery import Delivery

__all__ = ["Outcome", "error_payload", "outcome_of"]

log = logging.getLogger("yadtq.worker")

_TRACEBACK_BYTES = 8_000
_MESSAGE_CHARS = 4_000
#: Folders whose frames are between the worker and the task's own.
_MACHINERY = (str(Path(__file__).parent), str(Path(anyio.__file__).parent))


class Outcome(NamedTuple):
    """status: None if the attempt was broken off and says nothing of the task (shutdown, lost lease).

    payload: the result, or the error as JSON. retry_in_s: for RETRYING.
    """

    delivery: Delivery
    status: TaskStatus | None
    payload: bytes = b""
    retry_in_s: float = 0.0


def outcome_of(delivery: Delivery, error: BaseException, jitter: float) -> Outcome:
    """What an exception means for the task: another attempt, the end, or nothing at all. jitter: 0 to 1, of the back-off."""
    if isinstance(error, asyncio.CancelledError):
        if delivery.stop_reason in (StopReason.SHUTDOWN, StopReason.LEASE_LOST):
            return Outcome(delivery, None)
        if delivery.stop_reason is StopReason.TIMEOUT:
            limit = delivery.envelope.timeout_s or (delivery.task.timeout if delivery.task else None) or 0.0
            error = TaskTimeout(f"it ran for longer than its timeout of {limit:g} s")
    name, message = type(error).__name__, _message(error)
    text = _traceback(error)
    if delivery.task is None or isinstance(error, InvalidArguments):
        return Outcome(delivery, TaskStatus.FAILED, error_payload(name, message, text))
    policy = delivery.task.retry
    if delivery.envelope.retries is not None:
        policy = policy.with_retries(delivery.envelope.retries)
    delay = policy.delay(delivery.failures + 1, error, jitter)
    if delay is None:
        return Outcome(delivery, TaskStatus.FAILED, error_payload(name, message, text))
    log.info("%r failed on attempt %d (%s: %s), next in %.1f s", delivery, delivery.attempt, name, message, delay)
    return Outcome(delivery, TaskStatus.RETRYING, error_payload(name, message[:200]), delay)


def error_payload(name: str, message: str, trace: str = "") -> bytes:
    """An error as JSON, the way clients read it."""
    error = {"type": name, "message": message}
    if trace:
        error["traceback"] = trace
    # File names, for one, come with bytes that are no text: they have no JSON form.
    return encode({key: text.encode(errors="backslashreplace").decode() for key, text in error.items()})


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE_CHARS]
    except Exception as broken:
        return f"(its message raised {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    """The task's own frames, without those of the machinery that called it; the end of a long one says most."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_MACHINERY):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))[-_TRACEBACK_BYTES:]
