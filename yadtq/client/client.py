"""The async client: submits tasks, and reads their status and results."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

import anyio

from yadtq.client.background import Background
from yadtq.client.inspection import read_dead_letters, read_queues
from yadtq.client.registrar import Registrar
from yadtq.client.roster import live_workers, watch_workers
from yadtq.client.submitter import NOT_CONNECTED, Submitter
from yadtq.client.waiters import Waiters
from yadtq.errors import (
    ConfigError,
    ResultUnreadable,
    StoreUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
)
from yadtq.handle import TaskHandle
from yadtq.options import CallOptions
from yadtq.options import checked as checked_options
from yadtq.runtime.microbatch import MicroBatch
from yadtq.runtime.restarting import Restarting
from yadtq.shown import shown_value
from yadtq.task import BoundTask, Task
from yadtq.wire.codec import CodecError, decode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from yadtq.client.inspection import Queue
    from yadtq.client.routes import Route
    from yadtq.errors import ServiceFailed
    from yadtq.outside import Outside
    from yadtq.registry import Registry
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Snapshot
    from yadtq.wire.deadletter import DeadLetter
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = Task[Any, Any] | BoundTask[Any, Any] | str

_NO_OPTIONS: Mapping[str, Any] = {}

_OTHER_LOOP = "this client belongs to another event loop: make one with app.client() in each loop"
#: Time for the last registrations in Redis when the client is closed.
_CLOSE_S = 5.0


class _State(Enum):
    NEW = auto()
    STARTING = auto()
    OPEN = auto()
    CLOSED = auto()


class Client:
    """One connection set to Kafka and one to Redis. `async with app.client() as client: ...`"""

    def __init__(
        self,
        outside: Outside,
        settings: Settings,
        registry: Registry,
        *,
        num_partitions: int | None = None,
        routes: Sequence[Route] = (),
    ) -> None:
        """num_partitions: least number of partitions of the task topics; existing ones are grown, never shrunk.

        routes: called for every submit, in this order; see `client/routes.py`.
        """
        if num_partitions is not None and (isinstance(num_partitions, bool) or not isinstance(num_partitions, int)):
            raise ConfigError(f"num_partitions must be a whole number, not {shown_value(num_partitions)}")
        if num_partitions is not None and not 1 <= num_partitions <= 10_000:
            raise ConfigError(f"num_partitions must be 1 to 10,000, not {num_partitions}")
        self._outside = outside
        self._store = outside.store
        self._settings = settings
        self._registry = registry
        self._state = _State.NEW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._registrar = Registrar(
            outside.store, outside.clock, settings.redis_timeout_s, on_left=lambda: self._waiters.loss()
        )
        self._waiters = Waiters(outside, settings, is_pending=self._registrar.is_pending)
        self._submitter = Submitter(outside, settings, self._registrar, num_partitions=num_partitions, routes=routes)
        self._statuses = MicroBatch(self._store.tasks.snapshots, at_once=2, timeout_s=settings.redis_timeout_s)
        self._background = Background(
            [
                Restarting(service, outside.clock, outside.chance, on_failure=self._failed)
                for service in (self._waiters, self._registrar)
            ]
        )

    async def start(self) -> None:
        """Connect, and provision the topics of the app's queues.

        Raises `BrokerUnavailable`, `StoreUnavailable`, `TopicMismatch` or `ServiceFailed`, within `connect_timeout_s`
        each.
        """
        if self._state is not _State.NEW:
            raise ConfigError("a client is started once: make another with app.client()")
        self._state = _State.STARTING
        self._loop = asyncio.get_running_loop()
        try:
            await self._store.start()
            await self._submitter.start({task.queue for task in self._registry} | {"default"})
            await self._background.start(self._settings.connect_timeout_s)
            if self._state is not _State.STARTING:  # closed by another task meanwhile
                raise ConfigError(NOT_CONNECTED)
        except BaseException:  # also a cancelled start must leave no connection
            self._state = _State.CLOSED
            await self._background.aclose(0.0)
            await self._close_connections()
            raise
        self._state = _State.OPEN

    def _failed(self, error: ServiceFailed) -> None:
        """A service is started again. Callers that wait for something that it might have dropped get an error now."""
        self._waiters.fail(error)
        if error.service == self._registrar.name:
            self._registrar.fail(error)

    async def close(self) -> None:
        """Wait for submits in progress (at most their deadline) and disconnect. May be called twice."""
        before, self._state = self._state, _State.CLOSED
        if before is not _State.OPEN:
            return
        await self._submitter.finish()
        await self._statuses.aclose()
        await self._background.aclose(_CLOSE_S)
        await self._close_connections()

    async def _close_connections(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(6):
            await self._submitter.disconnect()
            await self._store.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # Submitting

    @overload
    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    async def submit(self, task: BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    async def submit(self, task: str, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...
    async def submit(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Send one task; returns when Kafka has it on all in-sync replicas.

        task: a task of the app, one with `options`, or a name. Raises `InvalidArguments`, `UnknownTask`,
        `PayloadTooLarge`, `SubmitOverloaded`, `StoreUnavailable` (nothing was sent), or `SubmitUncertain` (it may
        have been; submit the same id again).
        """
        found, options = self._resolve(task, _NO_OPTIONS)
        return self._handle(await self._submitter.submit(found, args, kwargs, options), found)

    async def submit_task(
        self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> TaskHandle[Any]:
        """`task.SubmitsTasks`: what `task.submit` and `task.options(...).submit` call. A name gets its options here.

        options: of `CallOptions`; they override those that `task` was bound to. Raises as `submit`.
        """
        found, options = self._resolve(task, options)
        return self._handle(await self._submitter.submit(found, args, kwargs, options), found)

    @overload
    async def submit_many(
        self,
        task: Task[..., R] | BoundTask[..., R],
        calls: Iterable[Sequence[Any] | dict[str, Any]],
        options: CallOptions | None = None,
    ) -> list[TaskHandle[R]]: ...
    @overload
    async def submit_many(
        self, task: str, calls: Iterable[Sequence[Any] | dict[str, Any]], options: CallOptions | None = None
    ) -> list[TaskHandle[Any]]: ...
    async def submit_many(
        self, task: AnyTask, calls: Iterable[Sequence[Any] | dict[str, Any]], options: CallOptions | None = None
    ) -> list[TaskHandle[Any]]:
        """Send one task for each of `calls` (a sequence of positional, or a dict of keyword arguments), in order.

        options: for all of them; they override those that `task` was bound to by `task.options(...)`.

        All arguments are validated before anything is sent. Raises as `submit` does; `SubmitUncertain` names all ids
        in doubt.
        """
        found, checked = self._resolve(task, options or _NO_OPTIONS)
        if "task_id" in checked:
            raise ConfigError("submit_many gives every task an id of its own: leave task_id out")
        return [self._handle(task_id, found) for task_id in await self._submitter.submit_many(found, calls, checked)]

    def is_usable_here(self) -> bool:
        """Whether it is connected, and of the running event loop."""
        return self._state is _State.OPEN and asyncio.get_running_loop() is self._loop

    def _check_open(self) -> None:
        if self._state is not _State.OPEN:
            raise ConfigError(NOT_CONNECTED)
        if asyncio.get_running_loop() is not self._loop:
            raise ConfigError(_OTHER_LOOP)

    def _resolve(self, task: AnyTask, options: Mapping[str, Any]) -> tuple[Task[Any, Any] | str, Mapping[str, Any]]:
        """What is submitted, and its options, checked. Raises `ConfigError`."""
        if not self.is_usable_here():
            self._check_open()
        if options:
            options = checked_options(options, CallOptions.__annotations__)
        if isinstance(task, Task):
            return task, options
        if isinstance(task, BoundTask):
            return task.task, {**task.options, **options}
        # A client without any task of its own (a script, another team's service) submits by name, unvalidated here.
        return (self._registry.get(task) if len(self._registry) else task), options

    # Status and results

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle to a task that was submitted anywhere. Its result is plain data.

        task_id: as the submit gave it. Nothing is asked yet, so nothing is raised.
        """
        return TaskHandle(task_id, self, decode)

    def _handle(self, task_id: str, task: Task[Any, Any] | str) -> TaskHandle[Any]:
        return TaskHandle(task_id, self, task.decode_result if isinstance(task, Task) else decode)

    async def status(self, task: TaskHandle[Any] | str) -> TaskStatus:
        """The state of a task now.

        task: a handle, or an id. Raises `TaskNotFound`, `ResultUnreadable`, `StoreUnavailable`.
        """
        task_id = task if isinstance(task, str) else task.id
        self._check_open()
        await self._registrar.flush()
        try:
            snapshot = await self._statuses.run(task_id)
        except TimeoutError as error:
            raise StoreUnavailable(f"Redis: {error}") from None
        if snapshot is None:
            raise TaskNotFound(task_id)
        if snapshot.status is None:
            raise ResultUnreadable(task_id, snapshot.problem)
        return snapshot.status

    @overload
    async def result(self, task: TaskHandle[R], timeout: float | None = None) -> R: ...
    @overload
    async def result(self, task: str, timeout: float | None = None) -> Any: ...
    async def result(self, task: TaskHandle[Any] | str, timeout: float | None = None) -> Any:
        """What a task returned, once it has.

        task: a handle, or an id, whose result is plain data. timeout: seconds; None waits for as long as it takes. Raises
        as `TaskHandle.result`.
        """
        return await (self.handle(task) if isinstance(task, str) else task).result(timeout)

    async def final_payload(self, task_id: str, timeout: float | None) -> bytes:
        """`handle.ResultSource`: the JSON of a result, or the error its task ended with."""
        self._check_open()
        try:
            async with asyncio.timeout(timeout):
                snapshot = await self._waiters.final(task_id)
        except TimeoutError:
            raise TimeoutError(f"task {task_id} has not ended within {timeout:g} s; it continues") from None
        if snapshot.status is TaskStatus.SUCCESS:
            return snapshot.payload
        raise _failure(task_id, snapshot)

    async def as_completed(
        self, handles: Iterable[TaskHandle[R]], timeout: float | None = None
    ) -> AsyncIterator[TaskHandle[R]]:
        """The handles in the order in which their tasks end, in any final state; `result()` of each then returns at
        once.

        Raises `TimeoutError` if not all have ended within `timeout` seconds.
        """
        self._check_open()
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

    async def queues(self) -> list[Queue]:
        """Every queue of the app, with its backlog and the age of its oldest unfinished task.

        For people and metrics: the backlog counts finished tasks behind an unfinished one, too. Raises
        `BrokerUnavailable`.
        """
        return await read_queues(self._outside)

    async def dead_letters(self, since_s: float = 86_400.0) -> list[DeadLetter]:
        """The dead letters of the last `since_s` seconds, oldest first. Raises `BrokerUnavailable`."""
        return await read_dead_letters(self._outside, since_s)

    async def workers(self) -> list[Heartbeat]:
        """The latest heartbeat of every live worker, from the heartbeat topic. Raises `BrokerUnavailable`."""
        return await live_workers(self._outside, self._settings)

    def watch_workers(self) -> AsyncIterator[list[Heartbeat]]:
        """`async for workers in client.watch_workers()`: the live workers, again after every heartbeat interval."""
        return watch_workers(self._outside, self._settings)


def _failure(task_id: str, snapshot: Snapshot) -> TaskFailed | TaskCancelled:
    if snapshot.status is TaskStatus.CANCELLED:
        return TaskCancelled(f"task {task_id} was cancelled")
    try:
        error = decode(snapshot.payload)
        return TaskFailed(
            task_id, str(error["type"]), str(error["message"]), str(error.get("traceback", "")), snapshot.attempt
        )
    except (CodecError, KeyError, TypeError, AttributeError):
        # Written by a newer version or another program: the failure itself must still reach the caller.
        return TaskFailed(task_id, "unknown", snapshot.payload.decode(errors="replace"), "", snapshot.attempt)
