"""Submitting tasks and asking for them: the async client.

A submit returns when Kafka has the task on all in-sync replicas: that alone decides whether it exists (D1). Its QUEUED
record in Redis follows within milliseconds. Submits that meet share one produce request and one script call (D9).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, overload

import anyio

from yadtq.broker.producer import KafkaProducer
from yadtq.broker.roster import live_workers, watch_workers
from yadtq.broker.topics import TopicNames, provision
from yadtq.clock import SystemClock
from yadtq.codec import CodecError, decode
from yadtq.envelope import Envelope, encode_envelope, new_task_id
from yadtq.errors import (
    BrokerUnavailable,
    ConfigError,
    InvalidArguments,
    PayloadTooLarge,
    StoreUnavailable,
    SubmitOverloaded,
    SubmitUncertain,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
)
from yadtq.handle import TaskHandle
from yadtq.microbatch import MicroBatch
from yadtq.ports import OutRecord
from yadtq.states import TaskStatus
from yadtq.store.registrar import Registrar
from yadtq.store.tasks import RedisStore
from yadtq.store.waiters import Waiters
from yadtq.task import BoundTask, CallOptions, Task, checked_id, checked_name, refuse_unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence

    from yadtq.envelope import Heartbeat
    from yadtq.ports import Snapshot
    from yadtq.registry import Registry
    from yadtq.settings import Settings

__all__ = ["Client"]

log = logging.getLogger("yadtq.client")

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = Task[Any, Any] | BoundTask[Any, Any] | str


_NO_OPTIONS = CallOptions()


#: Task id, topic, value. A plain tuple of atoms, which the garbage collector stops looking at.
_Submission: TypeAlias = tuple[str, str, bytes]


class Client:
    """One connection set to Kafka and one to Redis. `async with app.client() as client: ...`"""

    def __init__(self, app: str, settings: Settings, registry: Registry, *, num_partitions: int | None = None) -> None:
        self._names = TopicNames(app)
        self._settings = settings
        self._registry = registry
        self._num_partitions = num_partitions
        self._topics: dict[str, str] = {}
        self._provisioned: set[str] = set()
        self._provisioning = asyncio.Lock()
        self._closed = False
        self._running: asyncio.Task[None] | None = None
        self._space = asyncio.Event()
        self._pending = 0

    async def start(self) -> None:
        """Connect, and provision the topics of the app's queues.

        Raises `BrokerUnavailable`, `StoreUnavailable` or `TopicMismatch`, within `connect_timeout_s` each.
        """
        if self._running is not None or self._closed:
            raise ConfigError("a client is started once: make another with app.client()")
        settings = self._settings
        self._store = RedisStore(settings, self._names.app)
        self._producer = KafkaProducer(settings)
        self._waiters = Waiters(self._store, settings, SystemClock())
        self._registrar = Registrar(self._store)
        self._submissions = MicroBatch(self._send, limit=1000, at_once=4, timeout_s=settings.submit_timeout_s)
        self._statuses = MicroBatch(self._store.snapshots, at_once=2, timeout_s=settings.redis_timeout_s)
        try:
            await self._store.start()
            await self._provision({task.queue for task in self._registry} | {"default"})
            await self._producer.start()
        except BaseException:
            await self._close_connections()
            raise
        ready = asyncio.Event()
        self._running = asyncio.create_task(self._run_services(ready), name="yadtq-client")
        await ready.wait()

    async def _run_services(self, ready: asyncio.Event) -> None:
        async with anyio.create_task_group() as group:
            await group.start(self._waiters.run)
            await group.start(self._registrar.run)
            ready.set()

    async def close(self) -> None:
        """Wait for submits under way (at most their deadline) and disconnect. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._running is None:
            return
        await self._submissions.aclose()
        await self._statuses.aclose()
        self._waiters.stop()
        self._registrar.stop()
        await asyncio.wait([self._running], timeout=5)
        self._running.cancel()
        await self._close_connections()

    async def _close_connections(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(6):
            await self._producer.stop()
            await self._store.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # Submitting

    @overload
    async def submit(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    async def submit(self, task: BoundTask[P, R], *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    async def submit(self, task: str, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...
    def submit(self, task: AnyTask, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, TaskHandle[Any]]:
        """Send one task; returns when Kafka has it on all in-sync replicas.

        task: a task of the app, one with `options`, or a name. Raises `InvalidArguments`, `UnknownTask`,
        `PayloadTooLarge`, `SubmitOverloaded`, `StoreUnavailable` (nothing was sent), or `SubmitUncertain` (it may
        have been; submit the same id again).
        """
        found, options = self._resolve(task)
        return self._submit(found, args, kwargs, options)

    def submit_task(
        self, task: Task[Any, R] | str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Coroutine[Any, Any, TaskHandle[R]]:
        """`task.Submitter`: what `task.submit` and `task.options(...).submit` call. A name gets its options only here."""
        found, _ = self._resolve(task)
        return self._submit(found, args, kwargs, options)

    async def submit_many(
        self, task: AnyTask, calls: Iterable[Sequence[Any] | dict[str, Any]], options: CallOptions | None = None
    ) -> list[TaskHandle[Any]]:
        """Send one task for each of `calls` (a sequence of positional, or a dict of keyword arguments), in order.

        options: for a task given by name; others bring theirs with `task.options(...)`.

        All arguments are validated before anything is sent. Raises as `submit` does; `SubmitUncertain` names all ids
        in doubt.
        """
        found, own = self._resolve(task)
        options = options or own
        if options.task_id is not None:
            raise ConfigError("submit_many gives every task an id of its own: leave task_id out")
        submissions = [
            self._encode(found, (), call, options)
            if isinstance(call, dict)
            else self._encode(found, tuple(call), {}, options)
            for call in calls
        ]
        await self._provision({self._queue(found, options)})
        # In rounds, so that a million calls are never a million waiting submits.
        uncertain: list[str] = []
        reason = ""
        size = max(1, self._settings.max_pending_submits // 2)
        for at in range(0, len(submissions), size):
            part = submissions[at : at + size]
            try:
                await self._admit(len(part))
            except SubmitOverloaded as error:
                if not at:
                    raise
                # Earlier rounds are in Kafka, so "nothing was sent" is not true of the call as a whole.
                uncertain += [task_id for task_id, _, _ in submissions[at:]]
                reason = str(error)
                break
            try:
                outcomes = await asyncio.gather(*map(self._submissions.add, part), return_exceptions=True)
            finally:
                self._release(len(part))
            for (task_id, _, _), outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, BrokerUnavailable | TimeoutError):
                    uncertain.append(task_id)
                    reason = str(outcome)
                elif isinstance(outcome, BaseException):
                    raise outcome
        if uncertain:
            raise SubmitUncertain(uncertain, self._settings.submit_timeout_s, reason)
        try:
            await self._registrar.flush()
        except StoreUnavailable as error:
            # Kafka has them all, so they will run; only their QUEUED is late.
            log.warning("%d tasks are queued, but not yet known to Redis: %s", len(submissions), error)
        return [self._handle(task_id, found) for task_id, _, _ in submissions]

    async def _submit(
        self, task: Task[Any, Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> TaskHandle[Any]:
        submission = self._encode(task, args, kwargs, options)
        queue = self._queue(task, options)
        if queue not in self._provisioned:
            await self._provision({queue})
        if self._pending < self._settings.max_pending_submits:
            self._pending += 1
        else:
            await self._admit(1)
        try:
            # The future itself where there is one: a coroutine around it would be one more for each of many submits.
            await (self._submissions.add if self._submissions.busy else self._submissions.run)(submission)
        except (BrokerUnavailable, TimeoutError) as error:
            raise SubmitUncertain([submission[0]], self._settings.submit_timeout_s, str(error)) from error
        finally:
            self._release(1)
        return self._handle(submission[0], task)

    def _resolve(self, task: AnyTask) -> tuple[Task[Any, Any] | str, CallOptions]:
        if isinstance(task, BoundTask):
            return task.task, task.options
        if isinstance(task, Task):
            return task, _NO_OPTIONS
        # A client without any task of its own (a script, another team's service) submits by name, unvalidated here.
        return (self._registry.get(task) if len(self._registry) else task), _NO_OPTIONS

    def _encode(
        self, task: Task[Any, Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> _Submission:
        if self._closed or self._running is None:
            raise ConfigError("the client is not connected: use it inside `async with app.client() as client`")
        self._registrar.check()
        if isinstance(task, Task):
            name = task.name
            args, kwargs = task.validate(args, kwargs)
        else:
            name = checked_name(task)
        task_id = new_task_id() if options.task_id is None else checked_id(options.task_id)
        try:
            value = encode_envelope(
                Envelope(task_id, name, list(args), kwargs, 1, time.time(), options.retries, options.timeout)
            )
            refuse_unreadable(value)
        except CodecError as error:
            raise InvalidArguments(name, f"no JSON form: {error}") from None
        if len(value) > self._settings.max_task_bytes:
            raise PayloadTooLarge(name, len(value), self._settings.max_task_bytes)
        return task_id, self._topic(self._queue(task, options)), value

    def _topic(self, queue: str) -> str:
        topic = self._topics.get(queue)
        if topic is None:
            topic = self._topics[queue] = self._names.tasks(queue)
        return topic

    @staticmethod
    def _queue(task: Task[Any, Any] | str, options: CallOptions) -> str:
        return options.queue or (task.queue if isinstance(task, Task) else "default")

    async def _provision(self, queues: set[str]) -> None:
        if queues <= self._provisioned:
            return
        async with self._provisioning:
            # Of many first submits that meet here, one has done it for all.
            if missing := queues - self._provisioned:
                await provision(self._settings, self._names, missing, self._num_partitions)
                self._provisioned |= missing

    async def _send(self, submissions: Sequence[_Submission]) -> list[None]:
        await self._producer.append([OutRecord(topic, value) for _, topic, value in submissions])
        self._registrar.add([task_id for task_id, _, _ in submissions])
        return [None] * len(submissions)

    async def _admit(self, count: int) -> None:
        """Back-pressure: wait for room under the deadline of a submit."""
        limit = self._settings.max_pending_submits
        if self._pending and self._pending + count > limit:
            try:
                async with asyncio.timeout(self._settings.submit_timeout_s):
                    while self._pending and self._pending + count > limit:
                        self._space.clear()
                        await self._space.wait()
            except TimeoutError:
                raise SubmitOverloaded(
                    f"{self._pending} submits are waiting already (max_pending_submits is {limit}): "
                    "submit slower, or look whether Kafka keeps up"
                ) from None
        self._pending += count

    def _release(self, count: int) -> None:
        self._pending -= count
        self._space.set()

    # Asking

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle to a task that was submitted anywhere, by its id. Its result comes as plain data."""
        return TaskHandle(task_id, self, decode)

    def _handle(self, task_id: str, task: Task[Any, Any] | str) -> TaskHandle[Any]:
        return TaskHandle(task_id, self, task.decode_result if isinstance(task, Task) else decode)

    async def status(self, task: TaskHandle[Any] | str) -> TaskStatus:
        """Raises `TaskNotFound`, `StoreUnavailable`."""
        task_id = task if isinstance(task, str) else task.id
        await self._registrar.flush()
        try:
            snapshot = await self._statuses.run(task_id)
        except TimeoutError as error:
            raise StoreUnavailable(f"Redis: {error}") from None
        if snapshot is None:
            raise TaskNotFound(task_id)
        return snapshot.status

    async def result(self, task: TaskHandle[R] | str, timeout: float | None = None) -> R | Any:
        """See `TaskHandle.result`."""
        return await (self.handle(task) if isinstance(task, str) else task).result(timeout)

    async def final_payload(self, task_id: str, timeout: float | None) -> bytes:
        """`handle.ResultSource`: the JSON of a result, or the error its task ended with."""
        try:
            async with asyncio.timeout(timeout):
                snapshot = await self._waiters.final(task_id)
        except TimeoutError:
            raise TimeoutError(f"task {task_id} has not ended within {timeout:g} s; it goes on") from None
        if snapshot.status is TaskStatus.SUCCESS:
            return snapshot.payload
        raise _failure(task_id, snapshot)

    async def as_completed(
        self, handles: Iterable[TaskHandle[R]], timeout: float | None = None
    ) -> AsyncIterator[TaskHandle[R]]:
        """The handles in the order in which their tasks end, whatever way; `result()` of each is then at hand.

        Raises `TimeoutError` if not all have ended within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        ended: asyncio.Queue[TaskHandle[R]] = asyncio.Queue()
        waiting = {loop.create_task(self._waiters.final(handle.id)): handle for handle in handles}
        for wait, handle in waiting.items():
            wait.add_done_callback(lambda _, handle=handle: ended.put_nowait(handle))  # type: ignore[misc]
        try:
            for _ in range(len(waiting)):
                try:
                    async with asyncio.timeout_at(deadline):
                        yield await ended.get()
                except TimeoutError:
                    raise TimeoutError(f"not all of {len(waiting)} tasks have ended within {timeout:g} s") from None
        finally:
            for wait in waiting:
                wait.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def workers(self) -> list[Heartbeat]:
        """The latest heartbeat of every live worker, from the heartbeat topic. Raises `BrokerUnavailable`."""
        return await live_workers(self._settings, self._names.heartbeats)

    def watch_workers(self) -> AsyncIterator[list[Heartbeat]]:
        """`async for workers in client.watch_workers()`: the live workers, anew after every heartbeat interval."""
        return watch_workers(self._settings, self._names.heartbeats)


def _failure(task_id: str, snapshot: Snapshot) -> TaskFailed | TaskCancelled:
    if snapshot.status is TaskStatus.CANCELLED:
        return TaskCancelled(f"task {task_id} was cancelled")
    try:
        error = decode(snapshot.payload)
        return TaskFailed(
            task_id, str(error["type"]), str(error["message"]), str(error.get("traceback", "")), snapshot.attempt
        )
    except (CodecError, KeyError, TypeError, AttributeError):
        # Written by a newer version or another hand: the failure itself must still reach the caller.
        return TaskFailed(task_id, "unknown", snapshot.payload.decode(errors="replace"), "", snapshot.attempt)
