"""One annotation: how a value of it is written, how it is read, and the proof that both agree."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import CoreConfig, SchemaSerializer, to_json

from yadtq.shown import shown_value
from yadtq.values.equality import Doubts, same
from yadtq.values.plain import plain
from yadtq.values.words import problems, reason
from yadtq.wire.codec import refuse_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Writer = Callable[[Any], bytes]

__all__ = ["Annotation", "NonFinite", "Unfaithful"]

#: How NaN and the infinities are written: as text, or as JavaScript's constants, which strict JSON doesn't have.
NonFinite = Literal["strings", "constants"]
_NOT_GIVEN = object()
_ADVICE = "use plain data, or another annotation"


class Unfaithful(Exception):
    """No JSON of the value reads back as the value. The message says why, in one line, and what to do."""


class Annotation:
    """Of a parameter or a result. `plain` is None if values have to be looked at one by one.

    Fields are written by name, and read by name or alias. So foreign producers may use an alias, and between us it
    makes no difference which alias is for writing and which for reading.
    """

    __slots__ = ("_adapter", "_serializer", "_validator", "default", "plain", "read", "schema")

    def __init__(self, hint: Any) -> None:
        """Raises what pydantic raises for a type that it can't handle."""
        self._adapter: TypeAdapter[Any] = TypeAdapter(hint)
        self.schema: Any = self._adapter.core_schema
        # pydantic-core's own: pydantic's Python around it costs as much as it does.
        self._validator = self._adapter.validator
        # Without this configuration it makes null of NaN where nothing is annotated.
        self._serializer = SchemaSerializer(self.schema, CoreConfig(ser_json_inf_nan="constants"))
        #: Gives the default that the annotation names, if it does (`Field(default=...)`).
        self.default: Callable[[], Any] | None = None
        if self.schema["type"] == "default":
            self.default = self._default
            self.schema = self.schema["schema"]
        self.plain = plain(self.schema)
        #: The value of JSON. Raises `ValidationError`, or any error that a user's validator raises.
        self.read: Callable[[bytes], Any] = self._validator.validate_json
        if self.plain is None:  # it may have fields
            self.read = partial(self._validator.validate_json, by_alias=True, by_name=True)

    def _default(self) -> Any:
        found = self._validator.get_default_value()
        return None if found is None else found.value

    def json_schema(self) -> Any:
        """What its JSON looks like, for comparison; the name of the type, where JSON Schema has no words for it."""
        try:
            return self._adapter.json_schema()
        except Exception:  # pydantic's own errors, and any that a user's type raises
            return repr(self._adapter)

    def validate(self, value: Any) -> Any:
        """A value that somebody gave, as the annotation has it. Raises `ValidationError`."""
        return self._validator.validate_python(value, by_alias=True, by_name=True)

    def write(self, value: Any, non_finite: Sequence[NonFinite], given: Any = _NOT_GIVEN) -> bytes:
        """JSON that reads back as `value`. Raises `Unfaithful` if there is none.

        non_finite: how NaN and the infinities may be written, in order of preference. given: what `value` was validated
        from, if it was. It is tried where the value itself fails: a validator that changes its input
        (`AfterValidator(double)`) must see what was given, and not what it made of that before.
        """
        first = ""
        tried: list[bytes] = []
        for source, write in self._forms(value, non_finite, given):
            try:
                json = write(source)
            except Exception as error:  # serializers may be the user's: what one raises is why there is no JSON
                problem = f"it has no JSON form ({reason(error)})"
            else:
                if json in tried:
                    continue
                tried.append(json)
                problem = self._problem(json, source, value, write)
                if not problem:
                    return json
            first = first or problem
        raise Unfaithful(f"{first}: {_ADVICE}")

    def _forms(self, value: Any, non_finite: Sequence[NonFinite], given: Any) -> Iterator[tuple[Any, Writer]]:
        """What may be written, and how; the best first."""
        for mode in non_finite:
            yield value, partial(self._written, by_alias=False, non_finite=mode)
        # By name two fields can be mistaken for each other, if one has the name of the other for its alias.
        yield value, partial(self._written, by_alias=True, non_finite=non_finite[0])
        if given is not _NOT_GIVEN and given is not value:
            yield given, _inferred

    def _written(self, value: Any, *, by_alias: bool, non_finite: NonFinite) -> bytes:
        # In two steps: in one, a model inside writes NaN as null, which its own configuration decides.
        # No warnings for values of another type than annotated: reading back finds what they would be about.
        data = self._serializer.to_python(value, mode="json", by_alias=by_alias, round_trip=True, warnings=False)
        return to_json(data, inf_nan_mode=non_finite)

    def _problem(self, json: bytes, source: Any, value: Any, write: Writer) -> str:
        """Why the JSON that was written of `source` is not read as `value`; empty if it is."""
        try:
            refuse_unreadable(json)
            arrived = self.read(json)
        except ValidationError as error:
            return f"it can't be read back ({problems(error)})"
        except Exception as error:  # validators may be the user's, too
            return f"it can't be read back ({reason(error)})"
        try:
            doubts = Doubts()
            equal = same(value, arrived, doubts)
            if equal and (doubts.opaque or doubts.widened):
                equal = doubts.settle(json if source is value else write(value), write(arrived))
        except Exception as error:  # so may comparisons: what can't be compared can't be promised
            return f"it can't be compared with what would arrive ({reason(error)})"
        return "" if equal else f"it would arrive as {shown_value(arrived)}"


def _inferred(value: Any) -> bytes:
    return to_json(value, by_alias=False, round_trip=True, inf_nan_mode="strings")
