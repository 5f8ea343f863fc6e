"""A blocking client, for scripts and notebooks.

    with YADTQClient(num_partitions=4) as client:
        task_id = client.submit_task("addition", args=[100, 25])
        client.get_result(task_id)  # 125

The async client runs in a thread with a loop of its own, so every call may come from any thread, and also from inside
a running loop, as in a notebook. Not across `fork()`: the thread does not exist in the child, which makes a client of
its own (a process started by `spawn` does so anyway).
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from yadtq.app import Yadtq
from yadtq.client.client import Client
from yadtq.errors import ConfigError
from yadtq.shown import shown_value

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from yadtq.client.client import AnyTask
    from yadtq.options import CallOptions
    from yadtq.settings import ClientOptions, Settings
    from yadtq.wire.heartbeat import Heartbeat
    from yadtq.wire.states import TaskStatus

__all__ = ["YADTQClient"]

T = TypeVar("T")

#: `Client.close` waits for submits under way, and for each connection under a deadline of its own.
_CLOSE_S = 30.0


class YADTQClient:
    """Connects on construction, and provisions the topics of the app.

    num_partitions: least number of partitions of the task topics; existing topics are grown, never shrunk.
    app: a name, which is enough to submit tasks by their names, or a `Yadtq`, whose tasks are then known here.
    settings: kafka=, redis= and others, see `yadtq.settings`; what is not given comes from `YADTQ_*`,
    or from a given `Yadtq`.

    Raises `ConfigError`, and `BrokerUnavailable` or `StoreUnavailable` after `connect_timeout_s`.
    """

    def __init__(
        self,
        num_partitions: int | None = None,
        *,
        app: str | Yadtq = "default",
        **settings: Unpack[ClientOptions],
    ) -> None:
        if isinstance(num_partitions, str | Yadtq):
            raise ConfigError("an app is given by its keyword: YADTQClient(app=...)")
        if not isinstance(app, Yadtq):
            app = Yadtq(app, **settings)
            loaded = app.settings
        else:
            loaded = app.settings_with(**settings)
        self.app = app.name
        self._connection = _Connection(app, loaded, num_partitions)
        # Must not wait: the garbage collector runs anywhere, also in the thread that it would wait for.
        weakref.finalize(self, self._connection.ask_to_end).atexit = False

    def submit_task(
        self,
        task: AnyTask,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> str:
        """Send one task; returns its id once Kafka has it on all in-sync replicas.

        task: a name, or a task of an app. args, kwargs: of the call. task_id: your own id; to submit the same id again
        never runs it twice. queue, retries, timeout (seconds an attempt may take): None takes the task's own. Raises as
        `Client.submit`.
        """
        if isinstance(args, str | bytes):
            raise ConfigError(f"args must be a list or tuple of arguments, not {shown_value(args)}")
        call = tuple(args)
        handle = self._connection.call(lambda client: client.submit_task(task, call, dict(kwargs or {}), options))
        return handle.id

    def submit_many(
        self,
        task: AnyTask,
        calls: Iterable[Sequence[Any] | dict[str, Any]],
        **options: Unpack[CallOptions],
    ) -> list[str]:
        """Send one task for each of `calls` (a sequence of positional, or a dict of keyword arguments); ids in order.

        Much faster than a call of `submit_task` for each. Raises as `Client.submit_many`.
        """
        handles = self._connection.call(lambda client: client.submit_many(task, list(calls), options))
        return [handle.id for handle in handles]

    def get_status(self, task_id: str) -> TaskStatus:
        """The state of a task now. task_id: as the submit gave it.

        Raises `TaskNotFound`, `ResultUnreadable`, `StoreUnavailable`.
        """
        return self._connection.call(lambda client: client.status(task_id))

    def get_result(self, task_id: str, timeout: float | None = None) -> Any:
        """What the task returned, as plain data.

        task_id: as the submit gave it. timeout: seconds; None waits for as long as it takes.

        Raises `TaskFailed`, `TaskCancelled`, `ResultLost`, or `TimeoutError`, after which the task goes on and may be
        asked for again.
        """
        return self._connection.call(lambda client: client.result(task_id, timeout))

    def workers(self) -> list[Heartbeat]:
        """The latest heartbeat of every live worker. Raises `BrokerUnavailable`."""
        return self._connection.call(lambda client: client.workers())

    def close(self) -> None:
        """Wait for submits under way (at most their deadline) and disconnect. Twice is once.

        Calls of other threads that still wait raise `ConfigError`; so does every later call.
        """
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Connection:
    """The thread with the loop and the client. Holds no reference to the `YADTQClient`, which may thus be collected."""

    def __init__(self, app: Yadtq, settings: Settings, num_partitions: int | None) -> None:
        self._name = app.name
        self._pid = os.getpid()
        # Re-entrant: the garbage collector may call `ask_to_end` in a thread that holds it.
        self._lock = threading.RLock()
        self._closed = False
        self._ready: concurrent.futures.Future[Client] = concurrent.futures.Future()
        make = partial(Client, app.outside(settings), settings, app.registry, num_partitions=num_partitions)
        self._thread = threading.Thread(target=self._run, args=(make,), name=f"yadtq-{app.name}", daemon=True)
        self._thread.start()
        try:
            self._client = self._ready.result()
        except Exception:  # could not connect: its thread ends before the caller is told
            self.close()
            raise
        except BaseException:  # KeyboardInterrupt: don't wait for what is still connecting
            self.ask_to_end()
            raise
        _open.add(self)

    def _run(self, make: Callable[[], Client]) -> None:
        asyncio.run(self._serve(make))

    async def _serve(self, make: Callable[[], Client]) -> None:
        with self._lock:
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            if self._closed:
                self._end.set()
        try:
            async with make() as client:
                self._ready.set_result(client)
                await self._end.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            # Calls that were let in before are tasks of this loop by now, and `asyncio.run` cancels them.
            with self._lock:
                self._closed = True

    def call(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Do it in the loop, wait for it here. A KeyboardInterrupt ends the waiting and the work."""
        if os.getpid() != self._pid:
            raise ConfigError(f"this client was made in process {self._pid}, before a fork: make one in each process")
        with self._lock:
            if self._closed:
                raise ConfigError(f"this client of app {self._name!r} is closed: make another")
            future = asyncio.run_coroutine_threadsafe(work(self._client), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ConfigError(f"this client of app {self._name!r} was closed during the call") from None
        except BaseException:  # KeyboardInterrupt among them: what nobody waits for any more is not done
            future.cancel()
            raise

    def ask_to_end(self) -> None:
        """Never waits. The thread disconnects and ends."""
        with self._lock:
            self._closed = True
        if os.getpid() == self._pid:
            with contextlib.suppress(RuntimeError, AttributeError):  # its loop is closed already, or not made yet
                self._loop.call_soon_threadsafe(self._end.set)

    def close(self) -> None:
        self.ask_to_end()
        if os.getpid() == self._pid:
            self._thread.join(_CLOSE_S)


#: For the end of the interpreter, which stops daemon threads where they are. Kept alive by their own threads.
_open: weakref.WeakSet[_Connection] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for connection in list(_open):
        connection.close()
