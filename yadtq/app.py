"""An app: a name, settings, and the tasks that belong together. What `from yadtq import Yadtq` gives."""

from __future__ import annotations

import importlib
import os
import random
import socket
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, Unpack, overload

from yadtq.broker.kafka import KafkaBroker
from yadtq.client.client import Client
from yadtq.client.current import OpenClients
from yadtq.errors import ConfigError
from yadtq.outside import Outside, Place
from yadtq.registry import Registry
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings
from yadtq.store.redis import RedisStore
from yadtq.task import Task
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from yadtq.client.own import OwnClient
    from yadtq.context import TaskContext
    from yadtq.options import TaskOptions

__all__ = ["Yadtq", "load_app"]

P = ParamSpec("P")
R = TypeVar("R")
Lifespan: TypeAlias = "Callable[[Yadtq], AbstractAsyncContextManager[Any]]"


class _Decorator(Protocol):
    """`@app.task(...)`: async or sync, with or without a context as the first parameter."""

    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext[Any], P], Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext[Any], P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Task[Any, Any]: ...


class Yadtq:
    """lifespan: an async context manager, called with the app: what it yields is `ctx.state` of every task. Each worker
    process opens it before its first task and closes it after its last. settings: keywords of `Settings` (kafka=,
    redis=, ...); what is not given comes from `YADTQ_*`.

    Reading the settings is put off until something needs them: defining tasks must not depend on the environment.
    """

    def __init__(self, name: str = "default", *, lifespan: Lifespan | None = None, **settings: Any) -> None:
        TopicNames(name)  # refuses a name that no topic may have
        if lifespan is not None and not callable(lifespan):
            raise ConfigError("lifespan is a function that takes the app and gives an async context manager")
        self.name = name
        self.lifespan = lifespan
        self.registry = Registry()
        self._given = settings
        self._settings: Settings | None = None
        self._clients = OpenClients(name)

    def __repr__(self) -> str:
        return f"Yadtq({self.name!r}, tasks={[task.name for task in self.registry]})"

    @property
    def settings(self) -> Settings:
        """Raises `ConfigError`."""
        if self._settings is None:
            self._settings = self.settings_with()
        return self._settings

    def settings_with(self, **settings: Any) -> Settings:
        """The app's settings with some replaced; None leaves one as it is. Raises `ConfigError`."""
        given = {name: value for name, value in settings.items() if value is not None}
        return Settings.load(**{**self._given, **given})

    def configure(self, **settings: Any) -> None:
        """Set or replace settings before the first client or worker; None leaves one as it is."""
        self._given.update({name: value for name, value in settings.items() if value is not None})
        self._settings = None

    @overload
    def task(self, function: Callable[Concatenate[TaskContext[Any], P], Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[Concatenate[TaskContext[Any], P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> _Decorator: ...
    def task(
        self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]
    ) -> Task[Any, Any] | _Decorator:
        """Make a function a task. Async functions run in the worker's loop, sync ones in a thread.

        name: on the wire; default: the function's. queue: default: `default`. retries: attempts after the first, with
        exponential back-off from retry_base to retry_cap seconds. timeout: seconds an attempt may take. Raises
        `ConfigError`.
        """

        def make(function: Callable[..., Any]) -> Task[Any, Any]:
            task: Task[Any, Any] = Task(function, submitter=self._clients.current, options=options)
            self.registry.add(task)
            return task

        return make if function is None else make(function)

    @asynccontextmanager
    async def client(
        self, *, num_partitions: int | None = None, outside: Outside | None = None
    ) -> AsyncIterator[Client]:
        """Connect. Inside the block, and in tasks started there, `task.submit(...)` goes through it.

        Elsewhere in the same event loop it goes through the client that was opened last and is still open.

        num_partitions: least number of partitions of the task topics; existing topics are grown, never shrunk.
        outside: doubles in place of the real servers, for tests.
        """
        client = Client(outside or self.outside(), self.settings, self.registry, num_partitions=num_partitions)
        async with client:
            self._clients.enter(client)
            try:
                yield client
            finally:
                self._clients.leave(client)

    @contextmanager
    def working(self, own: OwnClient) -> Iterator[None]:
        """For workers, around all that one does: inside, `task.submit(...)` goes through its own client."""
        with self._clients.working(own):
            yield

    def outside(self, settings: Settings | None = None) -> Outside:
        """The real servers, the system's clock and chance: what a client, worker or supervisor of this app is given.

        settings: others than the app's own. Each call gives connections of its own, none of them open yet.
        """
        settings = settings or self.settings
        names, clock, chance = TopicNames(self.name), SystemClock(), random.SystemRandom()
        return Outside(
            broker=KafkaBroker(settings, names, clock),
            store=RedisStore(settings, self.name, chance, clock=clock),
            clock=clock,
            chance=chance,
            names=names,
            place=Place(socket.gethostname(), os.getpid()),
        )


def load_app(path: str) -> Yadtq:
    """The app at `module:attribute` (attribute: `app` if left out). Raises a one-line `ConfigError`."""
    module_name, _, attribute = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: an app is usually started from its own folder
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigError(f"no module named {module_name!r} here: expected module:app, like tasks:app") from None
        raise
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, Yadtq):
        found = "nothing of that name" if app is None else f"a {type(app).__name__}"
        raise ConfigError(f"{path!r}: expected a Yadtq app, found {found}")
    return app
