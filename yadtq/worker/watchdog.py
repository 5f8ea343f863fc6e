"""Detects a blocked event loop from another thread, and names the code that blocks.

It only observes and reports: leases and heartbeats stay on the loop, so a blocked worker loses them. If the loop is
blocked for too long it ends the process, and the supervisor starts another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import anyio

from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.clock import Clock

__all__ = ["EXIT_BLOCKED", "Watchdog"]

log = logging.getLogger("yadtq.worker")

EXIT_BLOCKED = 70  # EX_SOFTWARE
_TICK_S = 0.25
_REPORT_S = 1.0


class Watchdog(Service):
    """A service. limit_s: a loop blocked for longer ends its process with status 70."""

    name = "watchdog"

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._stopped = threading.Event()
        self._finished = anyio.Event()
        self._ticked = clock.monotonic()
        self.reports = 0

    def stop(self) -> None:
        self._stopped.set()
        self._finished.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        loop = asyncio.get_running_loop()
        self._ticked = self._clock.monotonic()
        thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(), loop), name="yadtq-watchdog", daemon=True
        )
        thread.start()
        task_status.started()
        while not self._finished.is_set():
            self._ticked = self._clock.monotonic()
            with anyio.move_on_after(_TICK_S):
                await self._finished.wait()

    def _watch(self, loop_thread: int, loop: asyncio.AbstractEventLoop) -> None:
        reported = 0.0
        while not self._stopped.wait(_TICK_S):
            ticked = self._ticked
            blocked = self._clock.monotonic() - ticked - _TICK_S
            if blocked > self._limit_s:
                log.critical("the event loop is blocked for %.0f s: ending this process", blocked)
                logging.shutdown()
                os._exit(EXIT_BLOCKED)
            if blocked > _REPORT_S and reported != ticked:
                reported = ticked
                self.reports += 1
                self._report(loop_thread, loop, blocked)

    def _report(self, loop_thread: int, loop: asyncio.AbstractEventLoop, blocked: float) -> None:
        frame = sys._current_frames().get(loop_thread)
        stack = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else "(no stack)"
        task = asyncio.current_task(loop)
        log.error(
            "the event loop is blocked for %.1f s by %s; make it a sync task, or await\n%s",
            blocked,
            task.get_name() if task is not None else "a callback",
            stack,
        )
