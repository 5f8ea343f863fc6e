"""One parameter of a task's function: what a caller may give for it, what is sent, and what an attempt gets of that."""

from __future__ import annotations

import copy
import inspect
import warnings
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import AliasChoices, AliasPath
from pydantic.fields import FieldInfo
from pydantic_core import core_schema, to_json
from typing_extensions import Unpack

from yadtq.values.advice import advice
from yadtq.values.annotation import Annotation, Unfaithful
from yadtq.values.plain import json_problem
from yadtq.wire.codec import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["OMITTED", "Parameter"]

#: Stands for an argument that was not given: only what was given is sent.
OMITTED = object()


class _Default:
    """A default among arguments that are still to be read: it is a value already."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


_MODES: dict[Any, Any] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
}


class Parameter:
    """One of those that are left when the `TaskContext` is taken away. index: its place among them.

    is_read_back: what is written of each of its values is read to see whether it is the same.
    is_untyped: it is plain, but some part is `Any`: each of its values must be JSON data there.
    """

    def __init__(self, parameter: inspect.Parameter, hint: Any, index: int) -> None:
        """Raises what pydantic raises for a type that it can't handle."""
        self.name, self.kind, self._index = parameter.name, parameter.kind, index
        #: `**rest: Unpack[Options]`: its values are one value.
        self._is_unpacked = get_origin(hint) is Unpack
        if self._is_unpacked:
            (hint,) = get_args(hint)
        default = parameter.default
        if isinstance(default, FieldInfo):
            hint, default = Annotated[hint, default], inspect.Parameter.empty
        with warnings.catch_warnings():
            # Said of an alias, which has no effect in an annotation by itself: we see to that.
            warnings.filterwarnings("ignore", message=".*alias.* no effect", category=UserWarning)
            self.annotation = Annotation(hint)
        self._default = self.annotation.default if default is inspect.Parameter.empty else _copier(default)
        self.has_default = self._default is not None
        self._aliases = _aliases(hint)
        plain = self.annotation.plain
        self.is_read_back = plain is None
        self.is_untyped = plain is not None and plain.untyped
        #: `*rest` or `**rest`.
        self.is_rest = parameter.kind not in _MODES
        #: Whether it may be given by its name.
        self.takes_keyword = _MODES.get(parameter.kind) in ("positional_or_keyword", "keyword_only")
        self._is_positional = _MODES.get(parameter.kind) in ("positional_or_keyword", "positional_only")

    def sent(self) -> core_schema.ArgumentsParameter:
        """Its part in the validator of a call that is submitted: plain values are validated there, others passed on."""
        return self._core(core_schema.with_default_schema(self.items(), default=OMITTED))

    def received(self) -> core_schema.ArgumentsParameter:
        """Its part in the validator of a call that is run: there it gets its default, too."""
        give = self._default or _nothing
        if self.is_read_back:
            give = partial(_wrapped, give)
        return self._core(core_schema.with_default_schema(self.items(), default_factory=give))

    def _core(self, with_default: core_schema.CoreSchema) -> core_schema.ArgumentsParameter:
        schema = self.items() if self._default is None else with_default
        return core_schema.arguments_parameter(self.name, schema, mode=_MODES[self.kind], alias=self._aliases)

    def items(self) -> core_schema.CoreSchema:
        return core_schema.any_schema() if self.annotation.plain is None else self.annotation.schema

    def validate(self, value: Any) -> Any:
        """Raises `ValidationError`, or any error that a user's validator raises."""
        return self.annotation.validate(value) if self.is_read_back else value

    def send(self, value: Any) -> Any:
        """What goes into the record: JSON data that reads back as `validate` has the value.

        Raises as `validate` does, or `Unfaithful`.
        """
        plain = self.annotation.plain
        if plain is None:
            return decode(self.annotation.write(self.annotation.validate(value), ("strings",), value))
        if plain.untyped and not plain.fits(value):
            raise Unfaithful(f"{json_problem(value)}: {advice(value, f'{self.name}:')}")
        return value

    def receive(self, value: Any) -> Any:
        """What an attempt gets. Raises as `validate` does."""
        if type(value) is _Default:
            return value.value
        return self.annotation.read(to_json(value)) if self.is_read_back else value

    def replace(
        self, values: list[Any], named: dict[str, Any], work: Callable[[Any], Any], others: Collection[str]
    ) -> None:
        """Put `work(value)` where the values of this parameter are. others: names that no `**rest` gets."""
        if self.kind is inspect.Parameter.VAR_POSITIONAL:
            values[self._index :] = map(work, values[self._index :])
        elif self.kind is inspect.Parameter.VAR_KEYWORD:
            rest = {name: value for name, value in named.items() if name not in others}
            named |= work(rest) if self._is_unpacked else {name: work(value) for name, value in rest.items()}
        elif self._is_positional and self._index < len(values):
            values[self._index] = work(values[self._index])
        elif self.takes_keyword and self.name in named:
            named[self.name] = work(named[self.name])


def _nothing() -> None:
    """Of a parameter without a default, which gets no schema for one."""


def _wrapped(give: Callable[[], Any]) -> _Default:
    return _Default(give())


def _copier(default: Any) -> Callable[[], Any]:
    """Gives the default; one that may be changed (a list, for one: it has no hash) as a copy for each attempt."""
    try:
        hash(default)
    except TypeError:
        try:
            copy.deepcopy(default)
        except Exception:  # the copying is code of the user's: then the default is shared, as in Python
            return lambda: default
        return lambda: copy.deepcopy(default)
    return lambda: default


def _aliases(hint: Any) -> str | list[str | int] | list[list[str | int]] | None:
    """Other names for which the parameter may be given, as pydantic has them."""
    found = None
    for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        if isinstance(extra, FieldInfo) and extra.validation_alias is not None:
            found = extra.validation_alias
    return found.convert_to_aliases() if isinstance(found, AliasChoices | AliasPath) else found
