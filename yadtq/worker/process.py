"""A worker process around its event loop: what tasks do to the process itself must not end it, and nothing may keep it
from ending.

asyncio lets SystemExit and KeyboardInterrupt of any task out of the loop: one that a task's child raised (in a gather,
in a task group) would end the worker with all its neighbours. A child that a task forks inherits the loop's signal
handlers: a signal to it would drain the worker. And a worker that has drained must end, even if its tasks have left
threads or asyncio tasks behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["protect_from_forks", "run_to_its_end"]

log = logging.getLogger("yadtq.worker")

_LEFTOVERS_S = 2.0


def protect_from_forks() -> None:
    """Signals to a child process that a task forks are for the child only, with their default effect."""
    os.register_at_fork(after_in_child=_forget_signals)


def _forget_signals() -> None:
    # The wake-up socket is shared with the parent, whose loop would see the child's signals as its own.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def run_to_its_end(
    main: Callable[[], Coroutine[None, None, None]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    """Run `main` in a new loop until it has returned. What still runs then is logged by name, and the process ends
    without it.
    """
    loop = loop_factory() if loop_factory is not None else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main(), name="yadtq-worker")
    try:
        while not task.done():
            try:
                loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as stray:
                if task.done():
                    raise
                log.error("a task raised %r out of the event loop; the worker goes on", stray)
    finally:
        if left := _leftovers(loop):
            log.critical("the worker ends without waiting for what its tasks have left behind: %s", ", ".join(left))
            logging.shutdown()
            sys.stderr.flush()
            os._exit(_status(task))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _status(task: asyncio.Task[None]) -> int:
    return 0 if task.done() and not task.cancelled() and task.exception() is None else 1


def _leftovers(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Cancels the asyncio tasks that are left; then names those that don't end, and threads that Python would wait
    for.
    """
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        tasks = loop.run_until_complete(_unfinished(tasks))
    threads = _threads()
    deadline = time.monotonic() + _LEFTOVERS_S
    while threads and time.monotonic() < deadline:
        threads[0].join(0.05)
        threads = _threads()
    return [f"asyncio task {task.get_name()}" for task in tasks] + [f"thread {thread.name}" for thread in threads]


async def _unfinished(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    _, pending = await asyncio.wait(tasks, timeout=_LEFTOVERS_S)
    return pending


def _threads() -> list[threading.Thread]:
    """Those that keep a process from ending: not daemons, and the pools of `asyncio.to_thread` and
    `concurrent.futures`.
    """
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and thread.is_alive() and not thread.daemon and not _is_idle(thread)
    ]


def _is_idle(thread: threading.Thread) -> bool:
    """A pool's thread that waits for work: it ends when the interpreter shuts down."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return True  # it has just ended
    if frame.f_code.co_filename.endswith("/concurrent/futures/thread.py"):
        return frame.f_code.co_name == "_worker"
    waits = False
    while frame is not None and frame.f_code.co_filename.endswith(("/queue.py", "/threading.py")):
        frame, waits = frame.f_back, True
    return waits and frame is not None and frame.f_code.co_filename.endswith("/anyio/_backends/_asyncio.py")
