"""One attempt to run a task: made when its claim is granted, and never used again.

So nothing that belongs to an attempt (its time limit, its lease, a request to stop) can affect a later one.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from yadtq.shown import shown

if TYPE_CHECKING:
    import asyncio

    from yadtq.execution.children import Children
    from yadtq.task import Task
    from yadtq.wire.envelope import Envelope

__all__ = ["Attempt", "StopReason"]


class StopReason(Enum):
    """Why a running attempt is cancelled. A cancellation without one is the task's own."""

    TIMEOUT = "timeout"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"
    CHILD_DIED = "its child process died"
    OTHER_VERSION = "another version of the code is to run it"


@dataclass(slots=True, eq=False)
class Attempt:
    """number: counted from 1. nonce: its fencing token. crashes, failures: of earlier attempts.

    lease_at: monotonic seconds when the lease was last known to hold. origin: the delivery that it belongs to;
    execution only passes it back. started_at: monotonic seconds. timeout_s: how long its function may run, None:
    without limit. running: the asyncio task, None before the start and after the end. children: what it has submitted,
    None: nothing yet.
    """

    envelope: Envelope
    task: Task[Any, Any] | None
    number: int
    nonce: str
    crashes: int
    failures: int
    lease_at: float
    started_at: float
    origin: Any
    timeout_s: float | None = None
    stop: StopReason | None = None
    running: asyncio.Task[None] | None = None
    children: Children | None = None

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {shown(self.envelope.id)} {shown(self.envelope.task)}>"

    def cancel(self, reason: StopReason) -> None:
        """Stop it; its outcome says why. The first reason counts. Does nothing once it has ended."""
        running = self.running
        if running is None or self.stop is not None:
            return
        self.stop = reason
        # An attempt that has not begun would end without an outcome if it were cancelled now; it checks `stop` first.
        if inspect.getcoroutinestate(running.get_coro()) != inspect.CORO_CREATED:  # type: ignore[arg-type]
            running.cancel()
