"""How an attempt ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from yadtq.states import TaskStatus
    from yadtq.worker.delivery import Delivery

__all__ = ["Outcome"]


class Outcome(NamedTuple):
    """status: None if the attempt was broken off and says nothing of the task (shutdown, lost lease).

    payload: the result, or the error as JSON. retry_in_s: for RETRYING.
    """

    delivery: Delivery
    status: TaskStatus | None
    payload: bytes = b""
    retry_in_s: float = 0.0
