"""The records on Kafka: a task, a heartbeat, a dead letter. The same text as docs/wire-format.md, in code.

The task record is decoded and validated in one pass of pydantic-core (about 1 µs): a record is either a whole, valid
`Envelope` or an `EnvelopeError` that says which field is wrong. Fields that this version doesn't know are ignored, so
that old workers can read what newer clients write.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json

from yadtq.codec import encode
from yadtq.errors import EnvelopeError

__all__ = [
    "DEAD_LETTER_HEADERS",
    "Envelope",
    "Heartbeat",
    "RunningTask",
    "decode_envelope",
    "encode_envelope",
    "new_task_id",
]

VERSION = 1
TaskId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\s{}]+$")]
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


@dataclass(slots=True)  # not frozen: that would make each one four times as dear, and every submit 1.5 µs
class Envelope:
    """One task, complete: a worker needs nothing else to run it.

    at: seconds since the epoch of the submit. retries, timeout_s: None takes the task's own.
    """

    id: TaskId
    task: TaskName
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    v: Literal[1] = 1
    at: float | None = None
    retries: Annotated[int, Field(ge=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


_ENVELOPE: TypeAdapter[Envelope] = TypeAdapter(Envelope)


def new_task_id() -> str:
    """96 random bits: no two alike in the lifetime of any system (2⁴⁸ ids before a collision is likely)."""
    return os.urandom(12).hex()


def encode_envelope(envelope: Envelope) -> bytes:
    """The record's value. Raises `CodecError` for arguments without a JSON form."""
    record: dict[str, Any] = {
        "v": VERSION,
        "id": envelope.id,
        "task": envelope.task,
        "args": envelope.args,
        "kwargs": envelope.kwargs,
    }
    if envelope.at is not None:
        record["at"] = envelope.at
    if envelope.retries is not None:
        record["retries"] = envelope.retries
    if envelope.timeout_s is not None:
        record["timeout_s"] = envelope.timeout_s
    return encode(record)


def decode_envelope(value: bytes | None) -> Envelope:
    """The task in a record's value. Raises `EnvelopeError` in one line."""
    if value is None:
        raise EnvelopeError("empty value: expected a JSON object with v, id, task")
    try:
        return _ENVELOPE.validate_json(value)
    except ValidationError as error:
        raise EnvelopeError(_first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


#: Headers of a dead letter; its key and value are the original record's, byte for byte.
DEAD_LETTER_HEADERS = (
    "yadtq-reason",  # undecodable | unknown-task | crashed
    "yadtq-detail",
    "yadtq-topic",
    "yadtq-partition",
    "yadtq-offset",
    "yadtq-timestamp",  # of the original record, ms since the epoch
    "yadtq-task-id",
    "yadtq-task",
    "yadtq-worker",
    "yadtq-at",  # ms since the epoch
)


class RunningTask(BaseModel):
    """One task that a worker runs at the time of a heartbeat."""

    model_config = ConfigDict(frozen=True)

    id: str
    task: str
    attempt: int
    age_s: float


class Heartbeat(BaseModel):
    """What a worker says of itself every `heartbeat_s`, from the event loop it vouches for (D6)."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    worker: str
    slot: str | None = None
    host: str
    pid: int
    phase: Literal["starting", "running", "draining", "stopped", "dead"]
    seq: int
    at: float
    queues: tuple[str, ...] = ()
    concurrency: int = 0
    loop_lag_s: float = 0.0
    rss_bytes: int = 0
    running: tuple[RunningTask, ...] = ()
    partitions: dict[str, int] = {}
    parked: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    fenced: int = 0

    def encode(self) -> bytes:
        """The record's value."""
        return to_json(self)

    @classmethod
    def decode(cls, value: bytes | None) -> Heartbeat:
        """Raises `EnvelopeError`."""
        try:
            return cls.model_validate_json(value or b"")
        except ValidationError as error:
            raise EnvelopeError(f"not a heartbeat: {_first_problem(error)}") from None
