"""A worker process around its event loop: what tasks do to the process itself must not end it, and nothing may keep it
from ending.

asyncio lets SystemExit and KeyboardInterrupt of any task out of the loop: one that a task's child raised (in a gather,
in a task group) would end the worker with all its neighbours, and so would `loop.stop()`. A child that a task forks
inherits the loop: a signal to it would drain the worker, and one that returns from the task would work as a second
worker on the same connections. And a worker that has drained must end, even if its tasks have left behind asyncio
tasks, threads, processes, or functions for `atexit` that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from yadtq.shown import shown_value

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["leave", "protect_from_forks", "run_to_its_end"]

log = logging.getLogger("yadtq.worker")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LEFTOVERS_S = 5.0
#: After that, for a log that can't be written because what hangs holds its lock.
_LAST_S = 2.0
_WIND_UP = "yadtq-wind-up"


def protect_from_forks(*descriptors: int) -> None:
    """A process that a task forks gets its own signals, none of these descriptors, and no part of our loop's work."""
    loop_thread = threading.get_ident()
    mask = threading.local()

    def before() -> None:
        # A signal to a child that has not run `in_child` yet would be lost to it, and drain the worker.
        mask.old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask.old)

    def in_child() -> None:
        # The wake-up socket is shared with the parent, whose loop would see the child's signals as its own.
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if _loop is not None and threading.get_ident() == loop_thread:
            _end_instead(_loop)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask.old)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


_loop: asyncio.AbstractEventLoop | None = None


def _end_instead(loop: Any) -> None:
    """In a forked child: as soon as the task that forked gives control back to the loop, end."""
    ready = getattr(loop, "_ready", None)  # asyncio's own loops have it: what waits there is the parent's
    if ready is not None:
        ready.clear()
    loop.call_soon(os._exit, 0)


def run_to_its_end(
    main: Callable[[], Coroutine[None, None, None]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    """Run `main` in a new loop until it has returned. From then on the process has a few seconds to end: what still
    runs after that is logged by name and cut off.
    """
    global _loop
    loop = _loop = loop_factory() if loop_factory is not None else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main(), name="yadtq-worker")
    try:
        _drive(loop, task)
        task.result()
    finally:
        _guard.start(loop, 0 if not task.cancelled() and task.exception() is None else 1)
        for each in asyncio.all_tasks(loop):
            each.cancel()
        _drive(loop, loop.create_task(_wind_up(loop), name=_WIND_UP))
        loop.close()


def leave(status: int) -> NoReturn:
    """End this process with this exit status, in order if that is possible."""
    _guard.status = status
    for name in ("stdout", "stderr"):
        # A task may have closed it; Python would turn the exit status into 120.
        try:
            getattr(sys, name).flush()
        except Exception:
            setattr(sys, name, None)
    sys.exit(status)


def _drive(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Run the loop until the task is done, whatever others raise out of it."""
    while not task.done():
        try:
            loop.run_until_complete(task)
        except BaseException as stray:
            # SystemExit and KeyboardInterrupt of a task's child, RuntimeError after a task has called `loop.stop()`.
            if loop.is_closed():
                raise
            if not task.done():
                log.error("a task raised %s out of the event loop; the worker goes on", shown_value(stray))


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    if others := asyncio.all_tasks(loop) - {asyncio.current_task()}:
        await asyncio.wait(others)
    await loop.shutdown_asyncgens()


class _Guard:
    """Cuts the end of the process off after `_LEFTOVERS_S`. A thread, as the main one is what hangs."""

    def __init__(self) -> None:
        self.status = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop, status: int) -> None:
        self._loop, self.status = loop, status
        threading.Thread(target=self._wait, name="yadtq-guard", daemon=True).start()
        with contextlib.suppress(Exception):  # stderr may be closed; then there is only the thread
            faulthandler.dump_traceback_later(_LEFTOVERS_S + _LAST_S, exit=True)

    def _wait(self) -> None:
        threading.Event().wait(_LEFTOVERS_S)
        try:
            log.critical(
                "the worker ends without waiting for what its tasks have left behind: %s", ", ".join(self._left())
            )
        finally:
            os._exit(self.status)

    def _left(self) -> list[str]:
        """What keeps the process from ending, by name."""
        found = []
        if self._loop is not None and not self._loop.is_closed():
            tasks = asyncio.all_tasks(self._loop)
            found += [f"asyncio task {task.get_name()}" for task in tasks if task.get_name() != _WIND_UP]
        found += [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread is not threading.main_thread() and not thread.daemon
        ]
        found += _processes()
        if not found:
            frame = sys._current_frames().get(threading.main_thread().ident or 0)
            where = traceback.extract_stack(frame)[-1] if frame is not None else None
            found = [f"{where.name} ({where.filename}:{where.lineno})" if where else "a function given to atexit"]
        return found


def _processes() -> list[str]:
    """Of `multiprocessing`, which waits for those that are no daemons and ends the others."""
    if (multiprocessing := sys.modules.get("multiprocessing")) is None:
        return []
    children = multiprocessing.active_children()
    for child in children:
        if child.daemon:
            child.terminate()
    return [f"process {child.name}" for child in children if not child.daemon]


_guard = _Guard()
