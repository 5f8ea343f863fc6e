"""Which annotations need no second look: their values come out of JSON as they went in, by their types alone.

Decided once, when a task is defined, from pydantic's own schema of an annotation. int, str, bool, float, None, and
lists, tuples and dicts with text keys of these are plain, and pay nothing for the rule that what arrives is what was
sent. What a schema says besides (a validator, a serializer, a conversion) makes it not plain. The list says what is
allowed, not what is forbidden: what pydantic adds tomorrow is looked at, and not trusted. No I/O.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any

from yadtq.shown import shown_value
from yadtq.values.words import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    Schema = Mapping[str, Any]

__all__ = ["Plain", "all_json", "is_json", "json_problem", "plain"]

_ATOMS: dict[str, type[Any]] = {"int": int, "str": str, "bool": bool, "float": float, "none": NoneType}
_NONE: frozenset[type[Any]] = frozenset({NoneType})
_TEXT: frozenset[type[Any]] = frozenset({str})
#: Types of which JSON keeps every value; of floats it has no NaN and no infinities.
_SAFE: frozenset[type[Any]] = frozenset({int, str, bool, NoneType})
_PATH_CHARS = 120
#: What a schema may say that only narrows what is accepted.
_NARROWS = {
    "gt",
    "ge",
    "lt",
    "le",
    "multiple_of",
    "allow_inf_nan",
    "min_length",
    "max_length",
    "pattern",
    "regex_engine",
}


@dataclass(frozen=True, slots=True)
class Plain:
    """fits: whether a value is of the annotated types, so that its JSON may be made without looking at the annotation.

    kinds: types whose every value fits. untyped: some part is `Any`, so that also a validated value has to fit, and its
    lists and dicts must be copied for each reader. narrowed: there are constraints, which `fits` doesn't look at.
    """

    fits: Callable[[Any], bool]
    kinds: frozenset[type[Any]] = frozenset()
    untyped: bool = False
    narrowed: bool = False

    def all_fit(self, values: Collection[Any]) -> bool:
        # Their types first: a flat list of a million numbers is decided in C.
        return self.kinds.issuperset(map(type, values)) or all(map(self.fits, values))


def plain(schema: Schema) -> Plain | None:
    """None: the annotation is not plain. See what becomes of each of its values."""
    maker = _MAKERS.get(schema["type"])
    if maker is None:
        return None
    says, make = maker
    if not schema.keys() <= says | _NARROWS | {"type", "metadata"}:
        return None
    made = make(schema)
    if made is not None and schema.keys() & _NARROWS:
        return Plain(made.fits, untyped=made.untyped, narrowed=True)
    return made


def is_json(value: Any) -> bool:
    """Whether JSON keeps it as it is: finite numbers, text, booleans, None, lists, and dicts with text keys."""
    kind = type(value)
    if kind in _SAFE:
        return True
    items: Collection[Any]
    if kind is list:
        items = value
    elif kind is dict and _TEXT.issuperset(map(type, value)):
        items = value.values()
    else:
        return kind is float and math.isfinite(value)
    return _SAFE.issuperset(map(type, items)) or all(map(is_json, items))  # `all_json`, which would be one more call


def all_json(values: Collection[Any]) -> bool:
    """Raises `RecursionError` for values that contain themselves."""
    return _SAFE.issuperset(map(type, values)) or all(map(is_json, values))


def json_problem(value: Any) -> str:
    """Where and why `is_json` is false; empty if it is true."""
    try:
        return _problem(value, "")
    except RecursionError as error:
        return reason(error)


def _problem(value: Any, path: str) -> str:
    if is_json(value):
        return ""
    kind = type(value)
    where = f"{path if len(path) <= _PATH_CHARS else f'...{path[-_PATH_CHARS:]}'} is" if path else "it is"
    if kind is list or kind is tuple:
        for index, item in enumerate(value):
            if found := _problem(item, f"{path}[{index}]"):
                return found
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return f"{where} a dict with a key of type {type(key).__name__}, and JSON has text"
            if found := _problem(item, f"{path}[{shown_value(key)}]"):
                return found
    what = shown_value(value) if kind is float else f"of type {kind.__name__}"
    return f"{where} {what}, which JSON would change"


_UNTYPED = Plain(is_json, _SAFE, untyped=True)


def _atom(schema: Schema) -> Plain:
    kind = _ATOMS[schema["type"]]

    def fits(value: Any) -> bool:
        if type(value) is kind:
            return True
        if kind is float and type(value) is int:
            return abs(value) <= 2**53  # beyond, not every int is a float
        # A float of NumPy, say: it arrives as the plain number that it equals. A bool or an enum's member is another
        # thing.
        return isinstance(value, kind) and not isinstance(value, bool | Enum)

    kinds: frozenset[type[Any]] = frozenset([kind])
    return Plain(fits, kinds)


def _literal(schema: Schema) -> Plain | None:
    expected = schema["expected"]
    if not _TEXT.issuperset(map(type, expected)):
        return None  # 1, True and the member of an enum are told apart by looking
    return Plain(lambda value: type(value) is str and value in expected)


def _nullable(schema: Schema) -> Plain | None:
    inner = plain(schema["schema"])
    if inner is None:
        return None
    fits = inner.fits
    return Plain(lambda value: value is None or fits(value), inner.kinds | _NONE, inner.untyped, inner.narrowed)


def _union(schema: Schema) -> Plain | None:
    choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
    inner = [plain(choice) for choice in choices]
    names = {choice["type"] for choice in choices}
    # NaN is written as text: a union with str would read text.
    if (
        None in inner
        or not names <= _ATOMS.keys()
        or names >= {"float", "str"}
        or schema.get("mode", "smart") != "smart"
    ):
        return None
    kinds = frozenset(_ATOMS[name] for name in names)
    return Plain(lambda value: type(value) in kinds, kinds, narrowed=any(one.narrowed for one in inner if one))


def _list(schema: Schema) -> Plain | None:
    inner = _inner(schema.get("items_schema"))
    if inner is None:
        return None
    fit = inner.all_fit
    return Plain(lambda value: isinstance(value, list) and fit(value), untyped=inner.untyped, narrowed=inner.narrowed)


def _dict(schema: Schema) -> Plain | None:
    keys, values = schema.get("keys_schema"), _inner(schema.get("values_schema"))
    if values is None or not (keys is None or keys["type"] in ("str", "any")):
        return None
    key = _inner(keys)
    if key is None:
        return None
    fit = values.all_fit
    return Plain(
        lambda value: isinstance(value, dict) and _TEXT.issuperset(map(type, value)) and fit(value.values()),
        untyped=values.untyped or key.untyped,
        narrowed=values.narrowed or key.narrowed,
    )


def _tuple(schema: Schema) -> Plain | None:
    inner = [plain(item) for item in schema["items_schema"]]
    if None in inner:
        return None
    parts = [one for one in inner if one]
    before = schema.get("variadic_item_index")

    def fits(value: Any) -> bool:
        if not isinstance(value, tuple):
            return False
        if before is None:
            return len(value) == len(parts) and all(part.fits(one) for part, one in zip(parts, value, strict=True))
        after = len(value) - (len(parts) - before - 1)
        return (
            after >= before
            and all(part.fits(one) for part, one in zip(parts, value[:before], strict=False))
            and parts[before].all_fit(value[before:after])
            and all(part.fits(one) for part, one in zip(parts[before + 1 :], value[after:], strict=True))
        )

    return Plain(fits, untyped=_any_of(parts, "untyped"), narrowed=_any_of(parts, "narrowed"))


def _inner(schema: Schema | None) -> Plain | None:
    return _UNTYPED if schema is None else plain(schema)


def _any_of(parts: Iterable[Plain], name: str) -> bool:
    return any(getattr(part, name) for part in parts)


#: Type of schema: what it may say besides what narrows it, and its maker. `strict` changes nothing where JSON has the
#: type.
_MAKERS: dict[str, tuple[set[str], Callable[[Schema], Plain | None]]] = {
    "any": (set(), lambda _: _UNTYPED),
    "bool": ({"strict"}, _atom),
    "dict": ({"keys_schema", "values_schema"}, _dict),
    "float": (set(), _atom),
    "int": ({"strict"}, _atom),
    "list": ({"items_schema"}, _list),
    "literal": ({"expected"}, _literal),
    "none": (set(), _atom),
    "nullable": ({"schema"}, _nullable),
    "str": ({"strict"}, _atom),
    "tuple": ({"items_schema", "variadic_item_index"}, _tuple),
    "union": ({"choices", "mode"}, _union),
}
