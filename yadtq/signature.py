"""What a task's function takes and gives: built once from its signature, when the task is defined.

Validators are pydantic-core's (about half a microsecond a call). Arguments are validated twice: on submit, so that the
mistake is raised where it was made, and on the worker, which trusts no record (D10).
"""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

from pydantic import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, PydanticSerializationError

from yadtq.context import TaskContext
from yadtq.errors import ConfigError, Discard, InvalidArguments
from yadtq.wire.codec import CodecError, refuse_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.wire.envelope import Envelope

__all__ = ["TaskSignature"]


class TaskSignature:
    """Of one task. takes_context: whether the function wants a `TaskContext` before its arguments."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises `ConfigError` for types that can't be had at run time or have no JSON form."""
        self._task = task
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError) as error:
            raise ConfigError(
                f"task {task!r}: {error}; types of a task's signature must be importable at run time"
            ) from None
        self.takes_context = _takes_context(task, signature, hints)
        try:
            self._arguments = _arguments(signature, hints, skip_first=self.takes_context)
            self._result: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
            self._may_be_none = _takes_none(self._result)
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            first_line = str(error).splitlines()[0]
            raise ConfigError(f"task {task!r}: {first_line}") from None

    def validate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function will get them. Raises `InvalidArguments` in one line."""
        try:
            # The validators themselves, here and below: pydantic's Python around them costs as much as they do.
            return self._arguments.validator.validate_python(ArgsKwargs(args, kwargs))  # type: ignore[no-any-return]
        except ValidationError as error:
            raise InvalidArguments(self._task, _problems(error)) from None

    def to_wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as they go into an `Envelope`. Raises `InvalidArguments` in one line."""
        args, kwargs = self.validate(args, kwargs)
        return list(args), kwargs

    def from_wire(self, envelope: Envelope) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for one attempt, which owns them. Raises `InvalidArguments` in one line."""
        return self.validate(tuple(envelope.args), envelope.kwargs)

    def encode_result(self, value: Any) -> bytes:
        """JSON by the return annotation. Raises `Discard`: another attempt would return the same."""
        if value is None and not self._may_be_none:  # pydantic lets it pass for any type
            raise Discard(f"the result doesn't fit the return annotation of task {self._task!r}: it is None")
        try:
            payload: bytes = self._result.serializer.to_json(value, warnings="error")
            refuse_unreadable(payload)
            return payload
        except (PydanticSerializationError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise Discard(f"the result doesn't fit the return annotation of task {self._task!r}: {reason}") from None

    def decode_result(self, payload: bytes) -> Any:
        """What the task returned. Raises `CodecError` if client and worker have different versions of the task."""
        try:
            return self._result.validate_json(payload)
        except ValidationError as error:
            raise CodecError(
                f"the result of task {self._task!r} is not what this version of it returns: {error}"
            ) from None


def _takes_none(result: TypeAdapter[Any]) -> bool:
    try:
        result.validate_python(None)
    except ValidationError:
        return False
    except Exception:
        return True  # a validator of the user's own that does not expect it here
    return True


def _is_context(hint: Any) -> bool:
    """`TaskContext`, `TaskContext | None`, or one of them in `Annotated`."""
    if typing.get_origin(hint) is typing.Annotated:
        return _is_context(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        return len(kinds) == 1 and _is_context(kinds[0])
    return hint is TaskContext


def _takes_context(name: str, signature: inspect.Signature, hints: dict[str, Any]) -> bool:
    wanting = [parameter for parameter in signature.parameters if _is_context(hints.get(parameter))]
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
