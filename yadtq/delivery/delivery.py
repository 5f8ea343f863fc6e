"""One record on its way through a worker, from the poll to the watermark."""

from __future__ import annotations

import os
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from yadtq.delivery.tracker import PartitionTracker
    from yadtq.runtime.seams import ConsumedRecord
    from yadtq.task import Task
    from yadtq.wire.envelope import Envelope

__all__ = ["Delivery", "StopReason", "new_nonce"]

_process = os.urandom(8).hex()
_serial = count(1)


def new_nonce() -> str:
    """A fencing token: 64 random bits of this process and a number. Drawing them anew each time would cost thrice."""
    return f"{_process}{next(_serial):x}"


class StopReason(Enum):
    """Why a running task is cancelled. A cancellation without one is the task's own."""

    TIMEOUT = "timeout"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"


class Delivery:
    """Mutable, and owned by one part of the worker at a time: fetcher, intake, claimer, executor, completer, in this order.

    task: None if its name is unknown here. doom: why it goes to the dead-letter topic instead of being run.
    lease_at: monotonic seconds when the lease was last known to hold. parked_s: how long it last waited for another's lease.
    """

    __slots__ = (
        "attempt",
        "crashes",
        "doom",
        "envelope",
        "failures",
        "lease_at",
        "nonce",
        "parked_s",
        "received_at",
        "record",
        "running",
        "started_at",
        "stop_reason",
        "task",
        "tracker",
    )

    def __init__(
        self,
        record: ConsumedRecord,
        envelope: Envelope,
        task: Task[Any, Any] | None,
        tracker: PartitionTracker[Delivery],
        received_at: float,
    ) -> None:
        self.record = record
        self.envelope = envelope
        self.task = task
        self.tracker = tracker
        self.received_at = received_at
        self.nonce = new_nonce()
        self.attempt = 0
        self.crashes = 0
        self.failures = 0
        self.lease_at = 0.0
        self.parked_s = 0.0
        self.started_at = 0.0
        self.doom: tuple[str, str] | None = None
        self.running: asyncio.Task[None] | None = None
        self.stop_reason: StopReason | None = None

    def __repr__(self) -> str:
        record = self.record
        return f"<Delivery {self.envelope.id} {self.envelope.task} {record.topic}/{record.partition}@{record.offset}>"

    def done(self) -> None:
        """The record needs no further delivery: its offset may be committed."""
        self.tracker.done(self.record.offset)

    def again(self) -> None:
        """Make ready for another claim, which needs a token of its own."""
        self.nonce = new_nonce()
        self.attempt = 0
        self.parked_s = 0.0
        self.running = None
        self.stop_reason = None
