"""Sync tasks wait here for a thread, without a lease or a slot: async tasks can use those meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.delivery.delivery import On

if TYPE_CHECKING:
    from collections.abc import Hashable

    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.runners.threads import ThreadRunner
    from yadtq.task import Task

__all__ = ["THREAD", "ThreadGate"]

#: The event: a thread is free.
THREAD = ("thread",)


class ThreadGate:
    """`gate.Gate`. Admits as many as there are threads, minus those that hang in a function that can't be stopped."""

    def __init__(self, threads: ThreadRunner) -> None:
        self._threads = threads
        self._gone: set[Delivery] = set()

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return task is not None and not task.is_async

    def ask(self, delivery: Delivery, now: float) -> On | None:
        if len(self._gone) + len(self._threads.left_behind()) >= self._threads.total:
            return On(THREAD)
        self._gone.add(delivery)
        return None

    def came_back(self, delivery: Delivery) -> Hashable | None:
        self._gone.discard(delivery)
        return THREAD
