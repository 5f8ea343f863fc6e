"""A task: a function with a name, validated arguments, an encoded result and the rules of its attempts.

Validators are built once, when the task is defined (pydantic-core, about half a microsecond a call). Arguments are
validated against the signature twice: on submit, so that the mistake is raised where it was made, and on the worker,
which trusts no record (D10).
"""

from __future__ import annotations

import inspect
import math
import typing
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from pydantic import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, PydanticSerializationError

from yadtq.context import TaskContext
from yadtq.errors import ConfigError, Discard, InvalidArguments
from yadtq.retry import RetryPolicy
from yadtq.wire.codec import CodecError, decode
from yadtq.wire.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from yadtq.handle import TaskHandle

__all__ = ["BoundTask", "CallOptions", "SubmitsTasks", "Task", "refuse_unreadable"]

P = ParamSpec("P")
R = TypeVar("R")

#: JSON with fewer brackets can't be nested deeper than the parser goes (200), so it needs no look.
_DEEP = 150


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
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError) as error:
            raise ConfigError(
                f"task {self.name!r}: {error}; types of a task's signature must be importable at run time"
            ) from None
        self.takes_context = _takes_context(self.name, signature, hints)
        try:
            self._arguments = _arguments(signature, hints, skip_first=self.takes_context)
            self._result: TypeAdapter[R] = TypeAdapter(hints.get("return", Any))
            self._may_be_none = _takes_none(self._result)
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            first_line = str(error).splitlines()[0]
            raise ConfigError(f"task {self.name!r}: {first_line}") from None

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
        """The arguments as the function will get them. Raises `InvalidArguments` in one line."""
        try:
            # The validators themselves, here and below: pydantic's Python around them costs as much as they do.
            return self._arguments.validator.validate_python(ArgsKwargs(args, kwargs))  # type: ignore[no-any-return]
        except ValidationError as error:
            raise InvalidArguments(self.name, _problems(error)) from None

    def encode_result(self, value: Any) -> bytes:
        """JSON by the return annotation. Raises `Discard`: another attempt would return the same."""
        if value is None and not self._may_be_none:  # pydantic lets it pass for any type
            raise Discard(f"the result doesn't fit the return annotation of task {self.name!r}: it is None")
        try:
            payload: bytes = self._result.serializer.to_json(value, warnings="error")
            refuse_unreadable(payload)
            return payload
        except (PydanticSerializationError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise Discard(f"the result doesn't fit the return annotation of task {self.name!r}: {reason}") from None

    def decode_result(self, payload: bytes) -> R:
        """What the task returned. Raises `CodecError` if client and worker have different versions of the task."""
        try:
            return self._result.validate_json(payload)
        except ValidationError as error:
            raise CodecError(
                f"the result of task {self.name!r} is not what this version of it returns: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class BoundTask(Generic[P, R]):
    """A task with its options for the next submit."""

    task: Task[P, R]
    options: CallOptions

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """See `Task.submit`."""
        return await self.task._submitter().submit_task(self.task, args, kwargs, self.options)


def refuse_unreadable(json: bytes) -> None:
    """Raises `CodecError` for JSON that is nested deeper than the parser goes: the writer doesn't mind."""
    if len(json) > 2 * _DEEP and json.count(b"[") + json.count(b"{") > _DEEP:
        decode(json)


def _checked_timeout(timeout: float | None, name: str) -> float | None:
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise ConfigError(f"task {name!r}: timeout must be a positive number of seconds, not {timeout}")
    return timeout


def _takes_none(result: TypeAdapter[Any]) -> bool:
    try:
        result.validate_python(None)
    except ValidationError:
        return False
    except Exception:
        return True  # a validator of the user's own that does not expect it here
    return True


def _takes_context(name: str, signature: inspect.Signature, hints: dict[str, Any]) -> bool:
    wanting = [parameter for parameter in signature.parameters if hints.get(parameter) is TaskContext]
    if not wanting:
        return False
    if wanting != [next(iter(signature.parameters))]:
        raise ConfigError(f"task {name!r}: the TaskContext must be the first parameter, and the only one of that type")
    return True


def _arguments(signature: inspect.Signature, hints: dict[str, Any], *, skip_first: bool) -> TypeAdapter[Any]:
    """Validates a call by `signature`; gives the validated (args, kwargs)."""

    def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs

    parameters = list(signature.parameters.values())[1 if skip_first else 0 :]
    # pydantic reads a function's shape from these two, as inspect does.
    arguments.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=inspect.Signature.empty
    )
    arguments.__annotations__ = {p.name: hints[p.name] for p in parameters if p.name in hints}
    return TypeAdapter(arguments)  # type: ignore[arg-type]  # functions are documented to be fine


def _problems(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        got = "" if problem["type"].startswith("missing") else f", got {_short(problem['input'])}"
        parts.append(f"{where}: {problem['msg']}{got}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
