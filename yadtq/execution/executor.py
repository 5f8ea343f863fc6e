"""Runs tasks: each in an asyncio task of its own, within a number of slots, and hands every outcome to the completer.

"Run one task" is four steps: admit (dead letters, arguments), call, classify, hand over. Nothing here talks to Redis.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import math
import random
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.context import TaskContext
from yadtq.delivery.delivery import StopReason
from yadtq.errors import ResultTooLarge
from yadtq.execution.outcome import Outcome, error_payload, outcome_of
from yadtq.execution.runners.threads import Threads
from yadtq.runtime.service import Service
from yadtq.store.tasks.verbs import SUSPECT_FROM
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.deadletters import DeadLetters
    from yadtq.delivery.delivery import Delivery
    from yadtq.runtime.clock import Clock
    from yadtq.settings import Settings, WorkerSettings
    from yadtq.task import Task

__all__ = ["Executor"]

_DEAD_LETTER_ERRORS = {"unknown-task": "UnknownTask", "crashed": "WorkerCrashed"}


class Executor(Service):
    """A service that owns the running tasks.

    on_outcome gets each outcome, on_free is told of each freed slot; neither waits.
    Tasks run beside `run`, not in a task group of its: a group would wait for ever for a task that swallows its
    cancellation, and a worker has to end.
    """

    name = "executor"

    def __init__(
        self,
        app: str,
        worker_id: str,
        settings: Settings,
        options: WorkerSettings,
        dead_letters: DeadLetters,
        clock: Clock,
        on_outcome: Callable[[Outcome], None],
        on_free: Callable[[], None],
    ) -> None:
        self._app = app
        self._worker_id = worker_id
        self._max_result_bytes = settings.max_result_bytes
        self._crash_limit = options.crash_limit
        self._dead_letters = dead_letters
        self._clock = clock
        self._on_outcome = on_outcome
        self._on_free = on_free
        self._threads = Threads(options.threads)
        self.concurrency = options.concurrency
        #: Slots not taken by a running task or by a claim on its way.
        self.free = options.concurrency
        #: By task id, since a lease is of a task and not of a record.
        self.running: dict[str, Delivery] = {}
        #: The one running task that has crashed workers before, if any (D7).
        self.suspect: Delivery | None = None
        self._timeouts: list[tuple[float, int, Delivery]] = []
        self._serial = count()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = asyncio.Event()
        self._broken_off: StopReason | None = None

    def stop(self) -> None:
        """`run` returns when the last running task has ended."""
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await self._stopped.wait()
            await self._idle.wait()
        except asyncio.CancelledError:
            # The worker is ending without a drain: that says nothing of the tasks, so it must not fail them.
            self.cancel_all(StopReason.SHUTDOWN)
            raise

    def reserve(self, count: int) -> None:
        """Take slots for claims on their way."""
        self.free -= count
        self._idle.clear()

    def unreserve(self, count: int) -> None:
        self.free += count
        if self.free == self.concurrency:
            self._idle.set()

    def start(self, delivery: Delivery) -> None:
        """Run a claimed task, in the slot that was reserved for it."""
        task_id = delivery.envelope.id
        if task_id in self.running:
            # Its lease ended while this claim was on its way, or the claim would not have been granted.
            self.cancel(self.running[task_id], StopReason.LEASE_LOST)
        self.running[task_id] = delivery
        if delivery.crashes >= SUSPECT_FROM:
            self.suspect = delivery
        if delivery.crashes >= self._crash_limit:
            delivery.doom = ("crashed", f"{delivery.crashes} attempts ended with their worker")
        delivery.started_at = self._clock.monotonic()
        delivery.stop_reason = self._broken_off
        delivery.running = asyncio.get_running_loop().create_task(self._run(delivery))

    async def _run(self, delivery: Delivery) -> None:
        try:
            if delivery.stop_reason is not None:  # before the first step
                outcome = Outcome(delivery, None)
            elif delivery.doom is not None or delivery.task is None:
                outcome = await self._dead_letter(delivery)
            else:
                outcome = Outcome(delivery, TaskStatus.SUCCESS, await self._call(delivery, delivery.task))
        except BaseException as error:
            # BaseException: a task that raises SystemExit or CancelledError has failed, and must not end its neighbours.
            outcome = outcome_of(delivery, error, random.random())
        self._leave(delivery)
        self._on_outcome(outcome)

    async def _call(self, delivery: Delivery, task: Task[Any, Any]) -> bytes:
        """The encoded result."""
        envelope = delivery.envelope
        args, kwargs = task.validate(tuple(envelope.args), envelope.kwargs)
        timeout = envelope.timeout_s if envelope.timeout_s is not None else task.timeout
        if timeout is not None:
            self._limit(delivery, timeout)
        if task.takes_context:
            context = TaskContext(envelope.id, task.name, self._app, self._worker_id, delivery.attempt, delivery.nonce)
            args = (context, *args)
        if task.is_async:
            value = await task.function(*args, **kwargs)
        else:
            value = await self._threads.run(delivery, partial(task.function, *args, **kwargs))
            if inspect.isawaitable(value):  # a plain decorator around an async function
                value = await value
        payload = task.encode_result(value)
        if len(payload) > self._max_result_bytes:
            raise ResultTooLarge(
                f"the result is {len(payload)} bytes encoded, max_result_bytes is {self._max_result_bytes}: "
                "return a reference to the data"
            )
        return payload

    async def _dead_letter(self, delivery: Delivery) -> Outcome:
        reason, detail = delivery.doom or ("unknown-task", f"no task {delivery.envelope.task!r} in app {self._app!r}")
        await self._dead_letters.append(delivery.record, reason, detail, delivery.envelope)
        return Outcome(delivery, TaskStatus.FAILED, error_payload(_DEAD_LETTER_ERRORS[reason], detail))

    def _leave(self, delivery: Delivery) -> None:
        if self._is_running(delivery):
            del self.running[delivery.envelope.id]
        if self.suspect is delivery:
            self.suspect = None
        self.unreserve(1)
        self._on_free()

    def cancel(self, delivery: Delivery, reason: StopReason) -> None:
        """Stop a running task; its outcome says why."""
        if delivery.running is not None and delivery.stop_reason is None:
            delivery.stop_reason = reason
            # One that has not begun would end without a word if it were cancelled now; it looks at the reason first.
            if inspect.getcoroutinestate(delivery.running.get_coro()) != inspect.CORO_CREATED:  # type: ignore[arg-type]
                delivery.running.cancel()

    def cancel_all(self, reason: StopReason) -> None:
        """Also whatever is granted from now on."""
        self._broken_off = reason
        for delivery in list(self.running.values()):
            self.cancel(delivery, reason)

    @property
    def is_idle(self) -> bool:
        """Nothing runs, and no claim is on its way."""
        return self._idle.is_set()

    @property
    def unstoppable(self) -> list[Delivery]:
        """After a drain: whatever has not ended though it was told to."""
        return list(self._threads.busy.union(self.running.values()))

    async def idle(self) -> None:
        """Returns when it is."""
        await self._idle.wait()

    def _limit(self, delivery: Delivery, seconds: float) -> None:
        """One timer for all time limits: a timer of its own would cost every task two heap operations of the loop."""
        if not seconds < math.inf:  # NaN, which a foreign client may send: it would upset the order of all the others
            return
        if len(self._timeouts) > 2 * len(self.running) + 64:
            # Most tasks end long before their limit; without this the heap would hold every one of the last `seconds`.
            self._timeouts = [entry for entry in self._timeouts if self._is_running(entry[2])]
            heapq.heapify(self._timeouts)
        heapq.heappush(self._timeouts, (self._clock.monotonic() + seconds, next(self._serial), delivery))
        if self._timeouts[0][2] is delivery:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._timeouts and not self._is_running(self._timeouts[0][2]):
            heapq.heappop(self._timeouts)
        if self._timeouts:
            delay = max(0.0, self._timeouts[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._timeouts and self._timeouts[0][0] <= now:
            delivery = heapq.heappop(self._timeouts)[2]
            if self._is_running(delivery):
                self.cancel(delivery, StopReason.TIMEOUT)
        self._set_timer()

    def _is_running(self, delivery: Delivery) -> bool:
        return self.running.get(delivery.envelope.id) is delivery
