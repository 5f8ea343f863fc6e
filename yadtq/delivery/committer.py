"""Commits the watermarks of all partitions, one request an interval, never one a task.

Now and then it commits them all again, changed or not: the late commit of a former owner may have set one back, and in a
partition that is idle since nothing else would set it right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.delivery.fetcher import Fetcher

__all__ = ["Committer"]

_AGAIN_S = 30.0


class Committer(Service):
    """A service."""

    name = "committer"

    def __init__(self, fetcher: Fetcher, interval_s: float) -> None:
        self._fetcher = fetcher
        self._interval_s = interval_s
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        again_at = anyio.current_time() + _AGAIN_S
        while not self._stopped.is_set():
            with anyio.move_on_after(self._interval_s):
                await self._stopped.wait()
            again = anyio.current_time() >= again_at
            if await self._fetcher.commit(again=again) and again:
                again_at = anyio.current_time() + _AGAIN_S
