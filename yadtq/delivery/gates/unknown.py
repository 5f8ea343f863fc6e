"""Tasks whose name is not known here: they wait some time for a deploy, and then go to the dead-letter topic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from yadtq.delivery.delivery import Until

if TYPE_CHECKING:
    from collections.abc import Hashable

    from yadtq.delivery.delivery import Delivery
    from yadtq.task import Task

__all__ = ["UnknownTasks"]

log = logging.getLogger("yadtq.worker")


class UnknownTasks:
    """`gate.Gate`. window_s: how long one waits, from its arrival."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return task is None

    def ask(self, delivery: Delivery, now: float) -> Until | None:
        if delivery.defect:
            return None
        left = delivery.received_at + self._window_s - now
        if left <= 0:
            return None
        log.warning("%r: no such task here; it waits %.0f s for a deploy", delivery, left)
        return Until(left)

    def came_back(self, delivery: Delivery) -> Hashable | None:
        return None
