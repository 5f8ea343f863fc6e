"""`python -m yadtq.worker.child module:app WORKER`: runs tasks for a worker process, which starts it and communicates
with it through two pipes.

It has the app and a loop of its own, and no connection to any server: leases, outcomes and offsets are its parent's. It
ends when the pipe with its orders closes, which also happens if the parent is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.app import load_app, load_servers
from yadtq.client.own import OwnClient
from yadtq.execution.attempt import Attempt, StopReason
from yadtq.execution.calls import Calls
from yadtq.execution.executor import Executor
from yadtq.execution.limits import Limits
from yadtq.execution.quarantine.frames import frame, read_frame
from yadtq.execution.quarantine.ward import CHILD_FDS
from yadtq.execution.runners.loop import LoopRunner
from yadtq.execution.runners.threads import ThreadRunner
from yadtq.execution.slots import Slots
from yadtq.execution.tasklog import log_calls, mark_records
from yadtq.runtime.logs import log_to_stderr
from yadtq.runtime.service import first_cause
from yadtq.settings import WorkerSettings
from yadtq.wire import exits
from yadtq.wire.envelope import decode_envelope
from yadtq.wire.inherited import handed_on
from yadtq.worker.facts import rss_bytes
from yadtq.worker.lifespan import lifespan_of
from yadtq.worker.process import protect_from_forks, run_to_its_end

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from yadtq.app import Yadtq
    from yadtq.execution.outcome import Outcome

__all__ = ["main"]

_BEAT_S = 1.0
#: Below the time after which the parent kills a child that it has closed.
_CLOSE_S = 4.0
_SLOTS = 64
_PR_SET_PDEATHSIG = 1


class Child:
    """worker_id: of the parent, which has the leases. answers: the descriptor to write to."""

    def __init__(self, app: Yadtq, worker_id: str, answers: int) -> None:
        self._app = app
        self._answers = answers
        self._outside = app.outside()
        options = WorkerSettings.load()
        limits = Limits(self._outside.clock)
        self._calls = Calls(
            app=app.name,
            worker_id=worker_id,
            max_result_bytes=app.settings.max_result_bytes,
            loop=LoopRunner(limits),
            threads=ThreadRunner(_SLOTS, limits),
            middleware=(log_calls,) if options.log_tasks else (),
        )
        self._lifespan = lifespan_of(app, options.lifespan_timeout_s, self._calls)
        self._submits = OwnClient(self._outside, app.settings, app.registry)
        self._executor = Executor(outside=self._outside, slots=Slots(_SLOTS), calls=self._calls, on_outcome=self._ended)

    async def run(self) -> None:
        """Returns when the orders end."""
        reader = asyncio.StreamReader(limit=2**20)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(sys.stdin.fileno(), "rb", 0, closefd=False)
        )
        with self._app.working(self._submits):
            await self._work(reader)

    async def _work(self, orders: asyncio.StreamReader) -> None:
        async with anyio.create_task_group() as group:
            await self.open(group)
            group.start_soon(self._beat)
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    self._obey(*await read_frame(orders))
            if self._lifespan is not None:
                with anyio.move_on_after(_CLOSE_S):
                    await self._lifespan.drained()
            group.cancel_scope.cancel()

    async def open(self, group: TaskGroup) -> None:
        """What a task may use. Raises in `group` if the lifespan can't be opened."""
        await group.start(self._submits.run)
        if self._lifespan is not None:
            await group.start(self._lifespan.run)

    def _obey(self, order: dict[str, Any], body: bytes) -> None:
        if order["op"] == "stop":
            if (running := self._executor.running.get(order["id"])) is not None:
                running.cancel(StopReason[order["reason"]])
            return
        envelope = decode_envelope(body)
        now = self._outside.clock.monotonic()
        attempt = Attempt(
            envelope,
            self._app.registry.find(envelope.task),
            order["attempt"],
            order["nonce"],
            0,  # crashes: in the child a suspect runs like any task
            order["failures"],
            now,
            now,
            None,
        )
        self._executor.slots.reserve(1)
        self._executor.slots.start(1)
        self._executor.start(attempt)

    def _ended(self, outcome: Outcome) -> None:
        answer = {
            "op": "ended",
            "id": outcome.attempt.envelope.id,
            "status": outcome.status.value if outcome.status is not None else None,
            "retry_in_s": outcome.retry_in_s,
            "misfit": outcome.misfit,
            "rss": rss_bytes(),
        }
        self._say(frame(answer, outcome.payload))

    async def _beat(self) -> None:
        while True:
            self._say(frame({"op": "beat", "rss": rss_bytes()}))
            await anyio.sleep(_BEAT_S)

    def _say(self, data: bytes) -> None:
        """Writes everything, even if the pipe is full for a moment: the parent's loop reads it and never waits."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._answers, view) :]


def end_with_parent() -> None:
    """A loop that is blocked does not see the end of its orders: the kernel does (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A host without memory should end this process, and not a worker.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")


def main() -> int:
    parent = os.getppid()
    answers, faults = (int(fd) for fd in os.environ.pop(CHILD_FDS).split(","))
    for fd in (answers, faults):
        os.set_inheritable(fd, False)
    end_with_parent()
    if os.getppid() != parent:
        return exits.FAILED
    faulthandler.enable(faults)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, lambda *_: None
        )  # of a terminal or a whole group: the parent decides when this process ends
    log_to_stderr(logging.INFO)
    logging.raiseExceptions = False  # as in the worker
    mark_records()
    app = load_app(sys.argv[1])
    load_servers()
    app.configure(**handed_on(os.environ))
    protect_from_forks(answers)  # whoever holds it would hide our end from the parent
    status = exits.DRAINED
    try:
        run_to_its_end(lambda: _run(app, sys.argv[2], answers), None)
    except BaseExceptionGroup as errors:
        print(f"yadtq: {first_cause(errors)}", file=sys.stderr, flush=True)
        status = exits.FAILED
    os._exit(status)  # threads that can't be stopped, and anything else that tasks left behind, end here


async def _run(app: Yadtq, worker_id: str, answers: int) -> None:
    await Child(app, worker_id, answers).run()


if __name__ == "__main__":
    sys.exit(main())
