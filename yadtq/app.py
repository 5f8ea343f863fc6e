"""An app: a name, settings, and the tasks that belong together. What `from yadtq import Yadtq` gives."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import random
import socket
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, Unpack, overload

from yadtq.client.client import Client
from yadtq.client.current import OpenClients
from yadtq.errors import ConfigError
from yadtq.modules import checked_names, exists, import_all
from yadtq.outside import Outside, Place
from yadtq.registry import PING, Registry
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings
from yadtq.task import Task
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import ModuleType

    from yadtq.client.own import OwnClient
    from yadtq.context import TaskContext
    from yadtq.options import TaskOptions
    from yadtq.settings import SettingsOptions

__all__ = ["Yadtq", "load_app", "load_servers"]

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


async def _ping() -> str:
    return "pong"


class Yadtq:
    """The tasks that belong together, and their settings.

    include: modules with tasks of this app, imported when the app is first used, by clients and workers alike; a
    package stands for all modules in it. lifespan: an async context manager, called with the app: what it yields is
    `ctx.state` of every task. Each worker process opens it before its first task and closes it after its last.
    settings: keywords of `Settings` (kafka=, redis=, ...); what is not given comes from `YADTQ_*`.

    Reading the settings is put off until something needs them: defining tasks must not depend on the environment.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        include: Iterable[str] = (),
        lifespan: Lifespan | None = None,
        **settings: Unpack[SettingsOptions],
    ) -> None:
        TopicNames(name)  # refuses a name that no topic may have
        self._include = checked_names(include)
        self._loading = threading.RLock()
        self._loaded, self._in_load = not self._include, False
        if lifespan is not None and not callable(lifespan):
            raise ConfigError("lifespan is a function that takes the app and gives an async context manager")
        self.name = name
        self.lifespan = lifespan
        self._given: dict[str, Any] = dict(settings)
        self._settings: Settings | None = None
        self._clients = OpenClients(name)
        self._registry = Registry([Task(_ping, submitter=self._clients.current, options={"name": PING})])

    def __repr__(self) -> str:
        return f"Yadtq({self.name!r}, tasks={[task.name for task in self._registry]})"

    @property
    def registry(self) -> Registry:
        """All tasks, those of `include` too. Raises `ConfigError` for a module that can't be imported."""
        if not self._loaded:
            self._load()
        return self._registry

    @property
    def queues(self) -> tuple[str, ...]:
        """Those that its tasks name, and `default`: clients that know a task only by its name submit there."""
        return tuple(sorted({"default", *(task.queue for task in self.registry)}))

    def _load(self) -> None:
        with self._loading:
            if self._loaded or self._in_load:
                return  # another thread has done it; or an included module asks for the tasks while it is imported
            self._in_load = True
            try:
                for module in import_all(self._include):
                    self._refuse_twin(module)
                self._loaded = True
            finally:
                self._in_load = False

    def _refuse_twin(self, module: ModuleType) -> None:
        for value in vars(module).values():
            if isinstance(value, Yadtq) and value is not self and value.name == self.name:
                raise ConfigError(
                    f"include: the tasks of {module.__name__} belong to another object for app {self.name!r}: the module "
                    "that makes it was loaded twice, once as the program itself; start another module, which imports it"
                )

    @property
    def settings(self) -> Settings:
        """The app's settings, read when they are first asked for. Raises `ConfigError` for a wrong one."""
        if self._settings is None:
            self._settings = self.settings_with()
        return self._settings

    def settings_with(self, **settings: Unpack[SettingsOptions]) -> Settings:
        """The app's settings with some replaced; None leaves one as it is. Raises `ConfigError`."""
        given = {name: value for name, value in settings.items() if value is not None}
        return Settings.load(**{**self._given, **given})

    def configure(self, **settings: Unpack[SettingsOptions]) -> None:
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
            self._registry.add(task)
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
        if outside is None:
            if "yadtq.store.redis" not in sys.modules:  # the first import reads files for a tenth of a second
                await asyncio.to_thread(load_servers)
            outside = self.outside()
        client = Client(outside, self.settings, self.registry, num_partitions=num_partitions)
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
        # Only here: the clients of the two servers take a third of the time of `import yadtq`, which programs that only
        # define tasks, and type checkers, tests and command lines of users, don't need.
        from yadtq.broker.kafka import KafkaBroker
        from yadtq.store.redis import RedisStore

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


def load_servers() -> None:
    """Import the clients of Kafka and Redis: in a loop the first call of `Yadtq.outside` would block."""
    import yadtq.broker.kafka
    import yadtq.store.redis  # noqa: F401


def load_app(path: str) -> Yadtq:
    """The app at `module:attribute`, with the modules that it includes. Raises a one-line `ConfigError`.

    Without an attribute: `app`, or the only app of the module. A package may also have it in its module `app` or
    `tasks`.
    """
    module_name, _, attribute = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: an app is usually started from its own folder
    module = _module(module_name)
    found = getattr(module, attribute, None) if attribute else _only_app(module)
    if found is None and not attribute and hasattr(module, "__path__"):
        for name in ("app", "tasks"):
            if found is None and exists(f"{module_name}.{name}"):
                found = _only_app(_module(f"{module_name}.{name}"))
    if not isinstance(found, Yadtq):
        what = "nothing of that name" if found is None else f"a {type(found).__name__}"
        raise ConfigError(f"{path!r}: expected a Yadtq app, found {what}; an app is named like tasks:app")
    _ = found.registry  # what it includes is loaded with it, so that a broken module is reported here
    return found


def _module(name: str) -> ModuleType:
    """Raises `ConfigError` if it is not there; what its own code raises is the user's."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"; did you mean {name[:-3]}?" if name.endswith(".py") else ""
            raise ConfigError(f"no module named {name!r} here: expected module:app, like tasks:app{hint}") from None
        raise
    except (ValueError, TypeError):
        if name and not name.startswith("."):
            raise
        raise ConfigError(f"{name!r} is no name of a module: expected module:app, like tasks:app") from None


def _only_app(module: ModuleType) -> object:
    """`app`, or else the only app; None: there is none. Raises `ConfigError` if there are several."""
    if (app := getattr(module, "app", None)) is not None and not inspect.ismodule(app):
        return app
    apps = {name: value for name, value in vars(module).items() if isinstance(value, Yadtq)}
    if len({id(value) for value in apps.values()}) > 1:
        raise ConfigError(f"{module.__name__!r} has several apps: name one, like {module.__name__}:{min(apps)}")
    return next(iter(apps.values()), None)
