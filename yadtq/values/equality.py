"""Whether a value that was read is the value that was written: exact in its types, unlike Python's `==`.

`True == 1 == 1.0`, an enum with a `str` mixin equals its text, and NaN equals nothing: none of that is of use to find
out whether a value has changed on its way. No I/O.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict, deque
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

__all__ = ["same"]

_ATOMS = frozenset({int, str, bool, bytes, NoneType})
_MISSING = object()
_BY_IDENTITY: Any = object.__eq__


def same(sent: Any, arrived: Any, opaque: list[Any]) -> bool:
    """Whether `arrived` is what was sent: equal, and of the same types all the way down.

    The one difference that is none: an int that was read where the annotation says float, if the numbers are equal.
    opaque: gets the objects whose class defines no equality. They count as the same here; compare them in another way.
    """
    kind = type(sent)
    if kind is not type(arrived):
        # JSON doesn't turn an int into a float: only an annotation does, and then it says so.
        return kind is int and type(arrived) is float and sent == arrived
    if kind in _ATOMS:
        return bool(sent == arrived)
    if sent is arrived:
        return True
    for base, compare in _BY_BASE:
        if isinstance(sent, base):
            return compare(sent, arrived, opaque)
    if dataclasses.is_dataclass(sent):
        return all(
            same(getattr(sent, field.name, _MISSING), getattr(arrived, field.name, _MISSING), opaque)
            for field in dataclasses.fields(sent)
        )
    if hasattr(kind, "get_secret_value"):
        return same(sent.get_secret_value(), arrived.get_secret_value(), opaque)
    return _objects(sent, arrived, opaque)


def _floats(sent: float, arrived: float, _: list[Any]) -> bool:
    if math.isnan(sent):
        return math.isnan(arrived)
    return sent == arrived and math.copysign(1.0, sent) == math.copysign(1.0, arrived)


def _complex(sent: complex, arrived: complex, opaque: list[Any]) -> bool:
    return _floats(sent.real, arrived.real, opaque) and _floats(sent.imag, arrived.imag, opaque)


def _decimals(sent: Decimal, arrived: Decimal, _: list[Any]) -> bool:
    return sent.as_tuple() == arrived.as_tuple()  # NaN, the sign of zero, and how many digits were given


def _enums(sent: Enum, arrived: Enum, _: list[Any]) -> bool:
    return sent is arrived


def _times(sent: datetime | time, arrived: datetime | time, _: list[Any]) -> bool:
    """The same wall clock at the same offset. The name of a zone doesn't travel: its offset does."""
    if (sent.tzinfo is None) != (arrived.tzinfo is None) or sent.utcoffset() != arrived.utcoffset():
        return False
    # Not `sent == arrived`: between two zones that is never true in the hour that a clock repeats (PEP 495).
    naive = sent.replace(tzinfo=None, fold=0) == arrived.replace(tzinfo=None, fold=0)
    return naive and (sent.tzinfo is not None or sent.fold == arrived.fold)


def _models(sent: BaseModel, arrived: BaseModel, opaque: list[Any]) -> bool:
    """Fields, extra fields and private attributes. Which fields were set explicitly is not part of the value."""
    fields = type(sent).model_fields
    return (
        all(same(sent.__dict__.get(n, _MISSING), arrived.__dict__.get(n, _MISSING), opaque) for n in fields)
        and same(sent.__pydantic_extra__, arrived.__pydantic_extra__, opaque)
        and same(sent.__pydantic_private__, arrived.__pydantic_private__, opaque)
    )


def _sequences(sent: Sequence[Any], arrived: Sequence[Any], opaque: list[Any]) -> bool:
    return (
        len(sent) == len(arrived)
        and all(same(one, other, opaque) for one, other in zip(sent, arrived, strict=True))
        and same(getattr(sent, "maxlen", None), getattr(arrived, "maxlen", None), opaque)
        and _attributes(sent, arrived, opaque)
    )


def _sets(sent: Set[Any], arrived: Set[Any], opaque: list[Any]) -> bool:
    if len(sent) != len(arrived):
        return False
    found = {other: other for other in arrived}
    for one in sent:
        # 1 finds True, and NaN nothing.
        if not same(one, found.get(one, _MISSING), opaque) and not any(same(one, other, opaque) for other in arrived):
            return False
    return _attributes(sent, arrived, opaque)


def _mappings(sent: Mapping[Any, Any], arrived: Mapping[Any, Any], opaque: list[Any]) -> bool:
    if len(sent) != len(arrived):
        return False
    keys = {key: key for key in arrived}
    for key, value in sent.items():
        other = keys.get(key, _MISSING)
        if not same(key, other, opaque) or not same(value, arrived[other], opaque):
            return False
    if isinstance(sent, defaultdict) and isinstance(arrived, defaultdict):
        return sent.default_factory == arrived.default_factory
    return _attributes(sent, arrived, opaque)


def _attributes(sent: Any, arrived: Any, opaque: list[Any]) -> bool:
    """What the instance of a subclass carries besides its items."""
    mine, others = getattr(sent, "__dict__", None), getattr(arrived, "__dict__", None)
    return not (mine or others) or (mine is not sent and same(mine, others, opaque))


def _objects(sent: Any, arrived: Any, opaque: list[Any]) -> bool:
    if type(sent).__eq__ is _BY_IDENTITY:
        opaque.append(sent)
        return True
    try:
        return bool(sent == arrived)
    except Exception:  # the class is the user's: an array, for one, raises when its comparison is used as a truth
        opaque.append(sent)
        return True


#: In this order: an enum may be a str, a datetime is a date, a model is an object like any other.
_BY_BASE: tuple[tuple[type | tuple[type, ...], Callable[[Any, Any, list[Any]], bool]], ...] = (
    (Enum, _enums),
    (float, _floats),
    ((list, tuple, deque), _sequences),
    (dict, _mappings),
    ((set, frozenset), _sets),
    (BaseModel, _models),
    ((datetime, time), _times),
    (Decimal, _decimals),
    (complex, _complex),
)
