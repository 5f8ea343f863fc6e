"""What a task's function takes and gives: built once from its signature, when the task is defined.

What the other side gets equals what was given, or the call is refused: arguments on submit, a result where it was made
(D25). Arguments are validated twice: on submit, so that the mistake is raised where it was made, and on the worker, which
trusts no record (D10). Most annotations are plain (`values/plain.py`), and cost that and nothing more.
"""

from __future__ import annotations

import inspect
import json
import typing
from functools import cached_property, partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ValidationError
from pydantic_core import ArgsKwargs, PydanticSerializationError, SchemaValidator, core_schema, to_json

from yadtq.context import TaskContext
from yadtq.errors import ConfigError, Discard, InvalidArguments
from yadtq.shown import shown_value
from yadtq.values.advice import advice
from yadtq.values.annotation import Annotation, Unfaithful
from yadtq.values.fingerprint import fingerprint
from yadtq.values.parameter import OMITTED, Parameter
from yadtq.values.plain import all_json, json_problem
from yadtq.values.words import first_line, problems, reason
from yadtq.wire.codec import CodecError, refuse_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yadtq.wire.envelope import Envelope

__all__ = ["TaskSignature", "untyped_arguments"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class TaskSignature:
    """Of one task. takes_context: whether the function wants a `TaskContext` before its arguments."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises `ConfigError` for types that can't be had at run time or have no JSON form."""
        self._task = task
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            signature = inspect.signature(function, eval_str=True)
        except Exception as error:  # annotations are evaluated here: code of the user's
            raise ConfigError(
                f"task {task!r}: {first_line(error)}; types of a task's signature must be importable at run time"
            ) from None
        found = list(signature.parameters.values())
        self.takes_context = _takes_context(task, found, hints)
        try:
            self._parameters = [
                Parameter(parameter, hints.get(parameter.name, Any), index)
                for index, parameter in enumerate(found[1 if self.takes_context else 0 :])
            ]
            self._sort_sent = _sorter(self._parameters, Parameter.sent)
            self._sort_received = _sorter(self._parameters, Parameter.received)
            self._result = Annotation(hints.get("return", Any))
        except Exception as error:  # so does pydantic, when it looks for schemas
            raise ConfigError(f"task {task!r}: {first_line(error)}") from None
        #: Of the context, where `**kwargs` would take an argument of that name, and the call would then have it twice.
        self._context_name = (
            found[0].name
            if self.takes_context
            and found[0].kind is not inspect.Parameter.POSITIONAL_ONLY
            and found[-1].kind is inspect.Parameter.VAR_KEYWORD
            else None
        )
        self._names = [parameter.name for parameter in self._parameters]
        self._defaulted = [parameter.name for parameter in self._parameters if parameter.has_default]
        self._keywords = frozenset(parameter.name for parameter in self._parameters if parameter.takes_keyword)
        self._read_back = [parameter for parameter in self._parameters if parameter.is_read_back]
        self._untyped = any(parameter.is_untyped for parameter in self._parameters)
        self._looked_at = [
            parameter for parameter in self._parameters if parameter.is_read_back or parameter.is_untyped
        ]
        plain = self._result.plain
        #: Constraints are not looked at here, so a narrowed result is read back to see whether its reader accepts it.
        self._result_fits = plain.fits if plain is not None and not plain.narrowed else None

    def validate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The arguments as the annotations have them. Raises `InvalidArguments` in one line."""
        values, named = self._given(args, kwargs)
        if self._read_back:
            self._submitted(self._read_back, values, named, Parameter.validate)
        return tuple(values), named

    def to_wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as they go into an `Envelope`: JSON data that reads back as what `validate` gives.

        Only what was given is sent; defaults are left to the worker. Raises `InvalidArguments` in one line.
        """
        values, named = self._given(args, kwargs)
        if self._read_back or (self._untyped and not _all_json(values, named)):
            self._submitted(self._looked_at, values, named, Parameter.send)
        return values, named

    def from_wire(self, envelope: Envelope) -> Arguments:
        """The arguments for one attempt. Those without an annotation are the envelope's own, so it serves only one.

        Raises `InvalidArguments` in one line, or any error that a user's validator raises.
        """
        args, kwargs = tuple(envelope.args), envelope.kwargs
        try:
            values, named = self._sort_received(ArgsKwargs(args, kwargs) if kwargs else args)
        except ValidationError as error:
            raise InvalidArguments(self._task, problems(error, self._names)) from None
        if self._read_back:
            values = list(values)
            self._each(self._read_back, values, named, Parameter.receive)
            return tuple(values), named
        return values, named

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """What was given, by the parameters' own names, with what is plain validated."""
        if self._context_name is not None and self._context_name in kwargs:
            raise InvalidArguments(self._task, f"{self._context_name}: the worker gives the context")
        try:
            # A bare tuple is half the price.
            values, named = self._sort_sent(ArgsKwargs(args, kwargs) if kwargs else args)
        except ValidationError as error:
            raise InvalidArguments(self._task, problems(error, self._names)) from None
        if len(values) + len(named) != len(args) + len(kwargs):
            values = values[: len(args)]
            for name in self._defaulted:
                if named.get(name) is OMITTED:
                    del named[name]
        return list(values), named

    def _each(
        self,
        parameters: Sequence[Parameter],
        values: list[Any],
        named: dict[str, Any],
        work: Callable[[Parameter, Any], Any],
    ) -> None:
        """Put `work(parameter, value)` where the values of these parameters are."""
        wrong: list[str] = []
        for parameter in parameters:
            try:
                parameter.replace(values, named, partial(work, parameter), self._keywords)
            except ValidationError as error:
                wrong.append(f"{parameter.name}: {problems(error)}")
            except Unfaithful as error:
                wrong.append(f"{parameter.name}: {error}")
        if wrong:
            raise InvalidArguments(self._task, "; ".join(wrong))

    def _submitted(
        self,
        parameters: Sequence[Parameter],
        values: list[Any],
        named: dict[str, Any],
        work: Callable[[Parameter, Any], Any],
    ) -> None:
        """`_each` for the caller of a submit, who gets nothing but `InvalidArguments`."""
        try:
            self._each(parameters, values, named, work)
        except InvalidArguments:
            raise
        except Exception as error:  # a validator of the user's may raise anything; data may contain itself
            raise InvalidArguments(self._task, reason(error)) from error

    def encode_result(self, value: Any) -> bytes:
        """JSON that reads back as the result. Raises `Discard`: another attempt would return the same."""
        try:
            if self._result_fits is not None and self._result_fits(value):
                payload = to_json(value, inf_nan_mode="strings")
                refuse_unreadable(payload)
                return payload
            # A result that is no strict JSON can still be read by every client of ours, and its work is done.
            return self._result.write(value, ("strings", "constants"))
        except Unfaithful as error:
            problem = str(error)
            if self._result.plain is not None and self._result.plain.untyped:
                problem = f"{json_problem(value) or problem}: {advice(value, '->')}"
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            problem = reason(error)
        raise Discard(f"the result doesn't fit the return annotation of task {self._task!r}: {problem}")

    def decode_result(self, payload: bytes) -> Any:
        """What the task returned. Raises `CodecError` if client and worker have different versions of the task."""
        try:
            return self._result.read(payload)
        except Exception as error:  # a validator of the user's may raise anything
            problem = problems(error) if isinstance(error, ValidationError) else reason(error)
            raise CodecError(
                f"it is not what this version of task {self._task!r} returns ({problem}); "
                "run the same code on clients and workers, or ask for plain data with client.handle(id)"
            ) from error

    @cached_property
    def has_sets(self) -> bool:
        """Whether a parameter may hold a set, whose order on the wire is another one in each process."""
        return any('"uniqueItems": true' in json.dumps(each.annotation.json_schema()) for each in self._parameters)

    @cached_property
    def fingerprint(self) -> str:
        """Short, and the same for signatures that read the same: of another version of the code, it may be another."""
        parts = [(parameter.name, parameter.kind.name, parameter.annotation) for parameter in self._parameters]
        return fingerprint([*parts, ("return", "", self._result)])


def untyped_arguments(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments for a task of which only the name is known: JSON data. Raises `InvalidArguments` in one line."""
    for where, value in (*((f"argument {index}", value) for index, value in enumerate(args)), *kwargs.items()):
        problem = json_problem(value) if type(where) is str else f"a keyword is text, not {shown_value(where)}"
        if problem:
            raise InvalidArguments(task, f"{where}: {problem}: use plain data, or submit the task itself, annotated")
    return list(args), kwargs


def _all_json(values: Sequence[Any], named: dict[str, Any]) -> bool:
    try:
        return all_json(values) and all_json(named.values())
    except RecursionError:  # which argument it is will be found, and said
        return False


def _takes_context(task: str, parameters: Sequence[inspect.Parameter], hints: dict[str, Any]) -> bool:
    wanting = [parameter for parameter in parameters if _is_context(hints.get(parameter.name))]
    if not wanting:
        return False
    if wanting != list(parameters[:1]):
        raise ConfigError(f"task {task!r}: the TaskContext must be the first parameter, and the only one of that type")
    return True


def _is_context(hint: Any) -> bool:
    """`TaskContext`, `TaskContext[State]`, one of them `| None`, or one of these in `Annotated`."""
    if typing.get_origin(hint) is Annotated:
        return _is_context(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not NoneType]
        return len(kinds) == 1 and _is_context(kinds[0])
    return TaskContext in (hint, typing.get_origin(hint))


def _sorter(
    parameters: Sequence[Parameter], part: Callable[[Parameter], core_schema.ArgumentsParameter]
) -> Callable[[Any], Any]:
    """Sorts the arguments of a call to their parameters; gives (args, kwargs), with what is plain validated."""
    rest = {parameter.kind: parameter.items() for parameter in parameters}
    schema = core_schema.arguments_schema(
        [part(parameter) for parameter in parameters if not parameter.is_rest],
        var_args_schema=rest.get(inspect.Parameter.VAR_POSITIONAL),
        var_kwargs_schema=rest.get(inspect.Parameter.VAR_KEYWORD),
        validate_by_name=True,
        validate_by_alias=True,
    )
    return SchemaValidator(schema).validate_python
