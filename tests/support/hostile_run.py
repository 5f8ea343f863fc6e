"""`python -m tests.support.hostile_run GROUP TASK FILE`: a worker on doubles in a process of its own, and what it survives.

Runs every kind of the group among neighbours, drains by SIGTERM, and ends. Writes one JSON line for each kind into the file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from tests.support.hostile_app import GROUPS, app, neighbour, neighbour_in_thread
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.logs import log_to_stderr
from yadtq.settings import WorkerSettings
from yadtq.worker.__main__ import serve
from yadtq.worker.process import leave, protect_from_forks, run_to_its_end
from yadtq.worker.worker import make_worker

if TYPE_CHECKING:
    from yadtq.client.client import Client

_WAIT_S = 20.0


async def try_out(client: Client, task: str, kind: str) -> dict[str, object]:
    before = [await client.submit(neighbour, n) for n in range(3)]
    before += [await client.submit(neighbour_in_thread, n) for n in range(3)]
    hostile = await client.submit(app.registry.get(task), kind)
    found: dict[str, object] = {"kind": kind, "pid": os.getpid()}
    try:
        async with asyncio.timeout(_WAIT_S):
            found["result"] = await hostile.result()
            after = [await client.submit(neighbour, n) for n in range(3)]
            found["neighbours"] = [await handle.result() for handle in (*before, *after)]
    except Exception as error:  # whatever it is, the test shows it
        found["error"] = repr(error)
    return found


def hears_signals() -> bool:
    """Whether SIGTERM comes to the running loop: by its handler, and by its socket, which another may have replaced."""
    loop: Any = asyncio.get_running_loop()
    wakes = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakes)
    handler = signal.getsignal(signal.SIGTERM)
    return wakes == loop._csock.fileno() and getattr(handler, "__module__", "") == "asyncio.unix_events"


async def main(group: str, task: str, answers: int) -> None:
    outside = memory_outside(app.name, clock=SystemClock())
    worker = make_worker(app, WorkerSettings.load(concurrency=20, grace_s=2), outside=outside)

    async def drive() -> None:
        async with app.client(outside=outside) as client:
            for act in GROUPS[group]:
                found = await try_out(client, task, act.__name__)
                os.write(answers, json.dumps(found).encode() + b"\n")
            await eventually(hears_signals, what="handlers that were taken away to be set again")
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()  # the store is shared: it stays open for the worker

    driving = asyncio.create_task(drive())
    try:
        await serve(worker)
    finally:
        driving.cancel()


if __name__ == "__main__":
    own = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT)
    log_to_stderr(logging.INFO)
    logging.raiseExceptions = False
    protect_from_forks()
    run_to_its_end(lambda: main(sys.argv[1], sys.argv[2], own), None)
    leave(0)
