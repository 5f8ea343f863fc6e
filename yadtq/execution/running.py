"""Which attempt the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from yadtq.execution.children import Children

if TYPE_CHECKING:
    from yadtq.execution.attempt import Attempt

__all__ = ["RUNNING", "children"]

#: Asyncio tasks that an attempt starts, and threads that it waits for, inherit it.
RUNNING: ContextVar[Attempt | None] = ContextVar("yadtq_attempt", default=None)


def children() -> Children | None:
    """Of the attempt that calls this; None outside of one. What it leaves running after its end is no part of it."""
    attempt = RUNNING.get()
    if attempt is None or attempt.running is None:
        return None
    if attempt.children is None:
        attempt.children = Children(attempt.envelope.id)
    return attempt.children
