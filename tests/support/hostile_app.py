"""Tasks that do to their process what no task should do, by kind; every one of them goes on to return its kind."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from yadtq import Yadtq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["GROUPS", "app"]

app = Yadtq("hostile")
FORK = multiprocessing.get_context("fork")
kept: list[Any] = []


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()


def close_descriptors() -> None:
    for number in (1, 2):
        with contextlib.suppress(OSError):
            os.close(number)


def no_streams() -> None:
    sys.stdout = sys.stderr = None


def end_logging() -> None:
    logging.shutdown()
    for handler in logging.getLogger().handlers:
        handler.close()


def lost_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def change_globals() -> None:
    os.umask(0o777)
    locale.setlocale(locale.LC_ALL, "C")
    sys.setswitchinterval(0.5)
    gc.disable()
    faulthandler.disable()
    faulthandler.dump_traceback_later(3_600)
    os.environ.clear()
    sys.argv.clear()


def take_signals() -> None:
    with contextlib.suppress(ValueError):  # in a thread
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)


def stop_the_loop() -> None:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().stop()


def stray_exits() -> None:
    def leave(kind: type[BaseException]) -> None:
        raise kind

    with contextlib.suppress(RuntimeError):
        for kind in (SystemExit, KeyboardInterrupt):
            asyncio.get_running_loop().call_soon(leave, kind)


# Forks


def fork_and_return() -> None:
    os.fork()


def fork_and_exit() -> None:
    if os.fork() == 0:
        sys.exit(0)


def fork_and_raise() -> None:
    if os.fork() == 0:
        raise ValueError("in the child")


def fork_and_wait() -> None:
    """Another part of the program may wait for our children."""
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def terminate_a_child() -> None:
    child = FORK.Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(10)
    assert child.exitcode == -signal.SIGTERM


def pools() -> None:
    for _ in range(4):
        with FORK.Pool(2) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]


def executor() -> None:
    kept.append(ProcessPoolExecutor(1, mp_context=FORK))
    assert kept[-1].submit(abs, -1).result(20) == 1


# What stays


def thread() -> None:
    threading.Thread(target=time.sleep, args=(600,), name="forgotten").start()


def asyncio_task() -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(600)

    with contextlib.suppress(RuntimeError):
        kept.append(asyncio.get_running_loop().create_task(stubborn()))


def exits_when_cancelled() -> None:
    async def rude() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            raise SystemExit(9)

    with contextlib.suppress(RuntimeError):
        kept.append(asyncio.get_running_loop().create_task(rude()))


def generator() -> None:
    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(600)

    async def begin() -> None:
        await anext(kept[-1])

    kept.append(endless())
    with contextlib.suppress(RuntimeError):
        kept.insert(0, asyncio.get_running_loop().create_task(begin()))


def at_exit() -> None:
    atexit.register(time.sleep, 600)


def process() -> None:
    child = FORK.Process(target=time.sleep, args=(30,))
    child.start()


def daemon() -> None:
    FORK.Process(target=time.sleep, args=(30,), daemon=True).start()


def program() -> None:
    warnings.simplefilter("ignore", ResourceWarning)
    subprocess.Popen(["sleep", "30"])


def orphan_and_death() -> None:
    """The child that it forks has all descriptors of this process, and lives on."""
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os._exit(3)


GROUPS: dict[str, list[Callable[[], None]]] = {
    "streams": [close_streams, close_descriptors, no_streams, end_logging],
    "state": [lost_folder, change_globals, take_signals, stop_the_loop, stray_exits],
    "forks": [fork_and_return, fork_and_exit, fork_and_raise, fork_and_wait, terminate_a_child, pools, executor],
    "leftovers": [thread, asyncio_task, exits_when_cancelled, generator, process, daemon, program],
    "at-exit": [at_exit],
}
_ACTS = {act.__name__: act for group in GROUPS.values() for act in group}
_ACTS["orphan_and_death"] = orphan_and_death


@app.task
async def in_loop(kind: str) -> str:
    _ACTS[kind]()
    await asyncio.sleep(0.05)  # what it did to the loop has happened before it ends
    return kind


@app.task
def in_thread(kind: str) -> str:
    _ACTS[kind]()
    return kind


@app.task
async def neighbour(n: int) -> int:
    await asyncio.sleep(0.3)
    return n + 1


@app.task
def neighbour_in_thread(n: int) -> int:
    time.sleep(0.1)
    return n + 1
