"""A task: a function with a name, its signature, and the rules of its attempts."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from yadtq.errors import ConfigError
from yadtq.retry import RetryPolicy
from yadtq.signature import TaskSignature
from yadtq.wire.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from yadtq.handle import TaskHandle
    from yadtq.wire.envelope import Envelope

__all__ = ["BoundTask", "CallOptions", "SubmitsTasks", "Task"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one submit may set for itself; None takes the task's own. See `Task.options`."""

    task_id: str | None = None
    queue: str | None = None
    retries: int | None = None
    timeout: float | None = None


_NO_OPTIONS = CallOptions()


class SubmitsTasks(Protocol):
    """The connected client, as a task sees it."""

    async def submit_task(
        self, task: Task[Any, R], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> TaskHandle[R]: ...


class Task(Generic[P, R]):
    """Made by `@app.task`. Calling it calls the function itself; `submit` sends it to a worker."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        submitter: Callable[[], SubmitsTasks],
        name: str | None = None,
        queue: str = "default",
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
    ) -> None:
        if not inspect.isroutine(function):
            raise ConfigError(f"@app.task decorates a function, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"task {function.__name__!r}: a task returns one result, it can't yield")
        update_wrapper(self, function)
        self.function = function
        self.name: str = checked_name(name or function.__name__)
        self.queue = queue
        self.retry = retry or RetryPolicy()
        self.timeout = _checked_timeout(timeout, self.name)
        self.is_async = inspect.iscoroutinefunction(function)
        self._submitter = submitter
        self.signature = TaskSignature(self.name, function)
        self.takes_context = self.signature.takes_context

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, TaskHandle[R]]:
        """Send to a worker, through the app's connected client (`async with app.client(): ...`).

        Returns once Kafka has it (acks=all). Raises a `SubmitError`, or `ConfigError` if no client is connected.
        """
        return self._submitter().submit_task(self, args, kwargs, _NO_OPTIONS)

    def options(
        self,
        *,
        task_id: str | None = None,
        queue: str | None = None,
        retries: int | None = None,
        timeout: float | None = None,
    ) -> BoundTask[P, R]:
        """The task with other rules for the next submit: `addition.options(retries=5).submit(1, 2)`.

        task_id: your own id; to submit the same id again never runs it twice. queue: another queue. retries: attempts
        after the first. timeout: seconds an attempt may take.
        """
        _checked_timeout(timeout, self.name)
        if retries is not None and retries < 0:
            raise ConfigError(f"task {self.name!r}: retries must be 0 or more, not {retries}")
        return BoundTask(self, CallOptions(task_id, queue, retries, timeout))

    def validate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `TaskSignature.validate`."""
        return self.signature.validate(args, kwargs)

    def to_wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """See `TaskSignature.to_wire`."""
        return self.signature.to_wire(args, kwargs)

    def arguments_of(self, envelope: Envelope) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `TaskSignature.from_wire`."""
        return self.signature.from_wire(envelope)

    def encode_result(self, value: Any) -> bytes:
        """See `TaskSignature.encode_result`."""
        return self.signature.encode_result(value)

    def decode_result(self, payload: bytes) -> R:
        """See `TaskSignature.decode_result`."""
        return self.signature.decode_result(payload)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class BoundTask(Generic[P, R]):
    """A task with its options for the next submit."""

    task: Task[P, R]
    options: CallOptions

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """See `Task.submit`."""
        return await self.task._submitter().submit_task(self.task, args, kwargs, self.options)


def _checked_timeout(timeout: float | None, name: str) -> float | None:
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise ConfigError(f"task {name!r}: timeout must be a positive number of seconds, not {timeout}")
    return timeout
