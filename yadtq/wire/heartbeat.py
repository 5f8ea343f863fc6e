"""The record on the heartbeat topic: the state of a worker, reported by itself. The same text as docs/wire-format.md,
in code.

A heartbeat of a supervised worker is sealed: a header carries a digest of its value, made with a secret that only this
worker and its supervisor know. So another writer to the topic can't make a frozen worker look alive.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from yadtq.errors import EnvelopeError
from yadtq.wire.envelope import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LARGEST_BYTES", "Heartbeat", "RunningTask", "is_sealed_with", "seal"]

#: A larger record is not a heartbeat.
LARGEST_BYTES = 256 * 1024
_SEAL = "seal"

# Bounded, because any client may have written them: formatting them must not overflow.
_Name = Annotated[str, Field(max_length=1_000)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class RunningTask(BaseModel):
    """One task that a worker runs at the time of a heartbeat."""

    model_config = ConfigDict(frozen=True)

    id: _Name
    task: _Name
    attempt: _Count
    age_s: _Seconds


class Heartbeat(BaseModel):
    """The state that a worker reports every `heartbeat_s`, from the event loop that runs its tasks (D6)."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    worker: _Name
    slot: _Name | None = None
    #: Id of the supervisor that started it; ids sort by start time.
    supervisor: _Name | None = None
    host: _Name
    pid: _Count
    phase: Literal["starting", "running", "draining", "stopped", "dead"]
    seq: _Count
    at: _Seconds
    queues: tuple[_Name, ...] = ()
    #: Name of the data set in Redis that it uses; two workers of an app with different names use different Redis
    #: servers.
    store: _Name = ""
    concurrency: _Count = 0
    loop_lag_s: _Seconds = 0.0
    rss_bytes: _Count = 0
    running: tuple[RunningTask, ...] = ()
    partitions: dict[_Name, _Count] = {}
    #: The tasks that it knows, with the fingerprints of their signatures: the first thousand.
    tasks: dict[_Name, _Name] = {}
    parked: _Count = 0
    succeeded: _Count = 0
    failed: _Count = 0
    retried: _Count = 0
    fenced: _Count = 0
    #: Services whose last rounds failed, with how many; at ten in a row the process ends.
    failing: dict[_Name, _Count] = {}

    def encode(self) -> bytes:
        """The record's value."""
        return to_json(self)

    @classmethod
    def decode(cls, value: bytes | None) -> Heartbeat:
        """Raises `EnvelopeError`."""
        if len(value or b"") > LARGEST_BYTES:
            raise EnvelopeError(f"not a heartbeat: larger than {LARGEST_BYTES} bytes")
        try:
            return cls.model_validate_json(value or b"")
        except ValidationError as error:
            raise EnvelopeError(f"not a heartbeat: {first_problem(error)}") from None


def seal(value: bytes, secret: str) -> tuple[tuple[str, bytes], ...]:
    """The headers of a heartbeat with this value. secret: of the worker; `""` leaves it unsealed."""
    return ((_SEAL, _digest(value, secret)),) if secret else ()


def is_sealed_with(secret: str, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether the worker with this secret has written it. Exactly one seal counts."""
    seals = [text for name, text in headers if name == _SEAL]
    return bool(secret) and len(seals) == 1 and hmac.compare_digest(seals[0] or b"", _digest(value or b"", secret))


def _digest(value: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), value, "sha256").hex().encode()
