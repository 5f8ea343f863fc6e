"""The record on the heartbeat topic: what a worker says of itself. The same text as docs/wire-format.md, in code."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

from yadtq.errors import EnvelopeError
from yadtq.wire.envelope import first_problem

__all__ = ["Heartbeat", "RunningTask"]


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
            raise EnvelopeError(f"not a heartbeat: {first_problem(error)}") from None
