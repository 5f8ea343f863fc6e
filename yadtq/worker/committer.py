"""Commits the watermarks of all partitions, one request an interval, never one a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.worker.fetcher import Fetcher

__all__ = ["Committer"]


class Committer:
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
        while not self._stopped.is_set():
            with anyio.move_on_after(self._interval_s):
                await self._stopped.wait()
            await self._fetcher.commit()
