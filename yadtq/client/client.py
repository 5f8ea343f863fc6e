"""The async client: submits tasks, and asks for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

import anyio

from yadtq.client.roster import live_workers, watch_workers
from yadtq.client.submitter import NOT_CONNECTED, Submitter
from yadtq.client.waiters import Waiters
from yadtq.errors import ConfigError, StoreUnavailable, TaskCancelled, TaskFailed, TaskNotFound
from yadtq.handle import TaskHandle
from yadtq.runtime.microbatch import MicroBatch
from yadtq.task import BoundTask, CallOptions, Task
from yadtq.wire.codec import CodecError, decode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence

    from yadtq.outside import Outside
    from yadtq.registry import Registry
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Snapshot
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = Task[Any, Any] | BoundTask[Any, Any] | str

_NO_OPTIONS = CallOptions()


class Client:
    """One connection set to Kafka and one to Redis. `async with app.client() as client: ...`"""

    def __init__(
        self, outside: Outside, settings: Settings, registry: Registry, *, num_partitions: int | None = None
    ) -> None:
        self._outside = outside
        self._store = outside.store
        self._settings = settings
        self._registry = registry
        self._num_partitions = num_partitions
        self._submitter: Submitter | None = None
        self._closed = False
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and provision the topics of the app's queues.

        Raises `BrokerUnavailable`, `StoreUnavailable` or `TopicMismatch`, within `connect_timeout_s` each.
        """
        if self._running is not None or self._closed:
            raise ConfigError("a client is started once: make another with app.client()")
        settings = self._settings
        self._waiters = Waiters(self._outside, settings)
        submitter = Submitter(self._outside, settings, self._handle, self._num_partitions)
        self._statuses = MicroBatch(self._store.tasks.snapshots, at_once=2, timeout_s=settings.redis_timeout_s)
        try:
            await self._store.start()
            await submitter.start({task.queue for task in self._registry} | {"default"})
        except BaseException:  # also a cancelled start must leave no connection
            await self._close_connections(submitter)
            raise
        self._submitter = submitter
        ready = asyncio.Event()
        self._running = asyncio.create_task(self._run_services(submitter, ready), name="yadtq-client")
        await ready.wait()

    async def _run_services(self, submitter: Submitter, ready: asyncio.Event) -> None:
        async with anyio.create_task_group() as group:
            await group.start(self._waiters.run)
            await group.start(submitter.registrar.run)
            ready.set()

    async def close(self) -> None:
        """Wait for submits under way (at most their deadline) and disconnect. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._running is None or self._submitter is None:
            return
        await self._submitter.finish()
        await self._statuses.aclose()
        self._waiters.stop()
        await asyncio.wait([self._running], timeout=5)
        self._running.cancel()
        await self._close_connections(self._submitter)

    async def _close_connections(self, submitter: Submitter) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(6):
            await submitter.disconnect()
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
        return self._connected().submit(found, args, kwargs, options)

    def submit_task(
        self, task: Task[Any, R] | str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Coroutine[Any, Any, TaskHandle[R]]:
        """`task.Submitter`: what `task.submit` and `task.options(...).submit` call. A name gets its options only here."""
        found, _ = self._resolve(task)
        return self._connected().submit(found, args, kwargs, options)

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
        return await self._connected().submit_many(found, calls, options)

    def _connected(self) -> Submitter:
        if self._submitter is None:
            raise ConfigError(NOT_CONNECTED)
        return self._submitter

    def _resolve(self, task: AnyTask) -> tuple[Task[Any, Any] | str, CallOptions]:
        if isinstance(task, BoundTask):
            return task.task, task.options
        if isinstance(task, Task):
            return task, _NO_OPTIONS
        # A client without any task of its own (a script, another team's service) submits by name, unvalidated here.
        return (self._registry.get(task) if len(self._registry) else task), _NO_OPTIONS

    # Asking

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle to a task that was submitted anywhere, by its id. Its result comes as plain data."""
        return TaskHandle(task_id, self, decode)

    def _handle(self, task_id: str, task: Task[Any, Any] | str) -> TaskHandle[Any]:
        return TaskHandle(task_id, self, task.decode_result if isinstance(task, Task) else decode)

    async def status(self, task: TaskHandle[Any] | str) -> TaskStatus:
        """Raises `TaskNotFound`, `StoreUnavailable`."""
        task_id = task if isinstance(task, str) else task.id
        await self._connected().registrar.flush()
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
        return await live_workers(self._outside.broker, self._settings, self._outside.names.heartbeats)

    def watch_workers(self) -> AsyncIterator[list[Heartbeat]]:
        """`async for workers in client.watch_workers()`: the live workers, anew after every heartbeat interval."""
        return watch_workers(self._outside.broker, self._settings, self._outside.names.heartbeats)


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
