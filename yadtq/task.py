"""A task: a function with a name, its signature, and the rules of its attempts."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from yadtq.errors import ConfigError
from yadtq.options import CallOptions, Effective, TaskOptions, checked
from yadtq.retry import RetryPolicy
from yadtq.shown import shown
from yadtq.signature import TaskSignature
from yadtq.wire.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from yadtq.handle import TaskHandle

__all__ = ["BoundTask", "SubmitsTasks", "Task"]

P = ParamSpec("P")
R = TypeVar("R")


_NO_OPTIONS: Mapping[str, Any] = {}


class SubmitsTasks(Protocol):
    """The connected client, as a task sees it."""

    async def submit_task(
        self, task: Task[Any, R], args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> TaskHandle[R]: ...


class Task(Generic[P, R]):
    """Made by `@app.task`. Calling it calls the function itself; `submit` sends it to a worker."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        submitter: Callable[[], SubmitsTasks],
        options: TaskOptions | None = None,
    ) -> None:
        """submitter: gives the client through which `submit` goes. Raises `ConfigError`."""
        if not inspect.isroutine(function):
            raise ConfigError(f"@app.task decorates a function, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"task {function.__name__!r}: a task returns one result, it can't yield")
        _refuse_method(function)
        update_wrapper(self, function, updated=())  # a function may have attributes of any name, like `submit`
        self.function = function
        given = _checked(options or {}, TaskOptions.__annotations__, function.__name__)
        self.name: str = given.get("name") or checked_name(function.__name__)
        self.queue: str = given.get("queue", "default")
        self.retry = RetryPolicy(given.get("retries", 0), given.get("retry_base", 1.0), given.get("retry_cap", 300.0))
        self.timeout: float | None = given.get("timeout")
        self.rules = Effective(self.retry, self.timeout)
        self.is_async = inspect.iscoroutinefunction(function)
        self._submitter = submitter
        self.signature = _signature(self.name, function)
        self.takes_context = self.signature.takes_context

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    async def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send to a worker, through the app's connected client (`async with app.client(): ...`).

        Inside a running task it goes through the worker's own client. Then the id is made of that task's id and of this
        call: when that task is run again, the same call submits nothing new. `options(fresh=True)` differs.

        Returns once Kafka has it (acks=all). Raises a `SubmitError`, or `ConfigError` if no client is connected.
        """
        return await self._submitter().submit_task(self, args, kwargs, _NO_OPTIONS)

    def options(self, **options: Unpack[CallOptions]) -> BoundTask[P, R]:
        """The task with other rules for the next submit: `addition.options(retries=5).submit(1, 2)`.

        task_id: your own id; to submit the same id again never runs it twice. fresh: inside a running task, True gives
        each call a new id; else a retry of the task gives the same call the same id. queue: another queue. retries:
        attempts after the first. timeout: seconds an attempt may take. None takes the task's own. Raises `ConfigError`.
        """
        return BoundTask(self, _checked(options, CallOptions.__annotations__, self.name))

    def validate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `TaskSignature.validate`."""
        return self.signature.validate(args, kwargs)

    def to_wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """See `TaskSignature.to_wire`."""
        return self.signature.to_wire(args, kwargs)

    def encode_result(self, value: Any) -> bytes:
        """See `TaskSignature.encode_result`."""
        return self.signature.encode_result(value)

    def decode_result(self, payload: bytes) -> R:
        """See `TaskSignature.decode_result`."""
        return self.signature.decode_result(payload)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, eq=False)
class BoundTask(Generic[P, R]):
    """A task with its options for the next submit. options: checked ones, of `CallOptions`."""

    task: Task[P, R]
    options: Mapping[str, Any]

    async def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """See `Task.submit`."""
        return await self.task._submitter().submit_task(self.task, args, kwargs, self.options)


def _checked(options: Mapping[str, Any], known: Iterable[str], task: str) -> dict[str, Any]:
    try:
        return checked(options, known)
    except ConfigError as error:
        raise ConfigError(f"task {task!r}: {error}") from None


def _signature(name: str, function: Callable[..., Any]) -> TaskSignature:
    try:
        return TaskSignature(name, function)
    except ConfigError:
        raise
    except Exception as error:  # annotations are the user's own code, and may raise anything
        reason = shown(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise ConfigError(f"task {name!r}: its signature can't be read: {reason}") from error


def _refuse_method(function: Callable[..., Any]) -> None:
    """A worker has no object to call a method on. One that is bound to an object already is as good as a function."""
    if inspect.ismethod(function):
        return
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    names = getattr(getattr(function, "__code__", None), "co_varnames", ())
    if owner and not owner.endswith("<locals>") and names[:1] in (("self",), ("cls",)):
        raise ConfigError(
            f"{function.__qualname__} is a method: a worker has no object to call it on; make it a function, and pass the "
            "data that it needs"
        )
