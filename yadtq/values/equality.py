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
from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from yadtq.wire.codec import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    Comparison = Callable[[Any, Any, "Doubts"], bool]

__all__ = ["Doubts", "same"]

_ATOMS = frozenset({int, str, bool, bytes, NoneType})
_MISSING = object()
_BY_IDENTITY: Any = object.__eq__


@dataclasses.dataclass(slots=True)
class Doubts:
    """What two values don't tell: they count as the same, if what is written of them is.

    opaque: there are objects whose class defines no equality. widened: an int arrived as the float that it equals.
    unordered: there are sets of several items, which are written in any order. It raises no doubt by itself.
    """

    opaque: bool = False
    widened: bool = False
    unordered: bool = False

    def settle(self, sent: bytes, arrived: bytes) -> bool:
        """sent, arrived: the JSON that is written of the two. Raises `CodecError`."""
        return sent == arrived or self._normal(decode(sent)) == self._normal(decode(arrived))

    def _normal(self, data: Any) -> str:
        """Text, since 1, 1.0 and True are equal in Python."""
        kind = type(data)
        if kind is list:
            items = [self._normal(item) for item in data]
            return f"[{','.join(sorted(items) if self.unordered else items)}]"
        if kind is dict:
            return f"{{{','.join([f'{key!r}:{self._normal(item)}' for key, item in data.items()])}}}"
        if kind is float and self.widened and data.is_integer():
            # Both must be numbers: an int that is written as text, and read as a float, is another value.
            return repr(int(data))
        return repr(data)


def same(sent: Any, arrived: Any, doubts: Doubts) -> bool:
    """Whether `arrived` is what was sent: equal, and of the same types all the way down.

    The one difference that is none: an int that was read where the annotation says float, if the numbers are equal.
    doubts: gets what can't be settled here.
    """
    kind = type(sent)
    if kind is not type(arrived):
        if kind is int and type(arrived) is float and sent == arrived:
            doubts.widened = True
            return True
        return False
    if kind in _ATOMS:
        return bool(sent == arrived)
    if sent is arrived:
        return True
    compare: Comparison = _comparison(kind)
    return compare(sent, arrived, doubts)


def _find_comparison(kind: type[Any]) -> Comparison:
    for base, compare in _BY_BASE:
        if issubclass(kind, base):
            return compare
    if dataclasses.is_dataclass(kind):
        return _dataclasses
    return _secrets if hasattr(kind, "get_secret_value") else _objects


#: Kept for each class: to find out whether it is a model of pydantic's takes longer than all the rest.
_comparison: Any = lru_cache(maxsize=1_000)(_find_comparison)


def _floats(sent: float, arrived: float, _: Doubts) -> bool:
    if math.isnan(sent):
        return math.isnan(arrived)
    return sent == arrived and math.copysign(1.0, sent) == math.copysign(1.0, arrived)


def _complex(sent: complex, arrived: complex, doubts: Doubts) -> bool:
    return _floats(sent.real, arrived.real, doubts) and _floats(sent.imag, arrived.imag, doubts)


def _decimals(sent: Decimal, arrived: Decimal, _: Doubts) -> bool:
    return sent.as_tuple() == arrived.as_tuple()  # NaN, the sign of zero, and how many digits were given


def _enums(sent: Enum, arrived: Enum, _: Doubts) -> bool:
    return sent is arrived


def _times(sent: datetime | time, arrived: datetime | time, _: Doubts) -> bool:
    """The same wall clock at the same offset. The name of a zone doesn't travel: its offset does."""
    if (sent.tzinfo is None) != (arrived.tzinfo is None) or sent.utcoffset() != arrived.utcoffset():
        return False
    # Not `sent == arrived`: between two zones that is never true in the hour that a clock repeats (PEP 495).
    naive = sent.replace(tzinfo=None, fold=0) == arrived.replace(tzinfo=None, fold=0)
    return naive and (sent.tzinfo is not None or sent.fold == arrived.fold)


def _models(sent: BaseModel, arrived: BaseModel, doubts: Doubts) -> bool:
    """Fields, extra fields and private attributes. Which fields were set explicitly is not part of the value."""
    fields = type(sent).__pydantic_fields__
    return (
        all(same(sent.__dict__.get(n, _MISSING), arrived.__dict__.get(n, _MISSING), doubts) for n in fields)
        and same(sent.__pydantic_extra__, arrived.__pydantic_extra__, doubts)
        and same(sent.__pydantic_private__, arrived.__pydantic_private__, doubts)
    )


def _dataclasses(sent: Any, arrived: Any, doubts: Doubts) -> bool:
    """Fields, and what else the instances carry, as extra fields are. What a class computes and keeps is not compared."""
    names = {field.name for field in dataclasses.fields(sent)}
    for one in (sent, arrived):
        names.update(name for name in getattr(one, "__dict__", ()) if not hasattr(type(one), name))
    return all(same(getattr(sent, name, _MISSING), getattr(arrived, name, _MISSING), doubts) for name in names)


def _secrets(sent: Any, arrived: Any, doubts: Doubts) -> bool:
    return same(sent.get_secret_value(), arrived.get_secret_value(), doubts)


def _sequences(sent: Sequence[Any], arrived: Sequence[Any], doubts: Doubts) -> bool:
    return (
        len(sent) == len(arrived)
        and all(same(one, other, doubts) for one, other in zip(sent, arrived, strict=True))
        and same(getattr(sent, "maxlen", None), getattr(arrived, "maxlen", None), doubts)
        and _attributes(sent, arrived, doubts)
    )


def _sets(sent: Set[Any], arrived: Set[Any], doubts: Doubts) -> bool:
    if len(sent) != len(arrived):
        return False
    doubts.unordered |= len(sent) > 1
    found = {other: other for other in arrived}
    for one in sent:
        # 1 finds True, and NaN nothing.
        if not same(one, found.get(one, _MISSING), doubts) and not any(same(one, other, doubts) for other in arrived):
            return False
    return _attributes(sent, arrived, doubts)


def _mappings(sent: Mapping[Any, Any], arrived: Mapping[Any, Any], doubts: Doubts) -> bool:
    if len(sent) != len(arrived):
        return False
    keys = {key: key for key in arrived}
    for key, value in sent.items():
        other = keys.get(key, _MISSING)
        if not same(key, other, doubts) or not same(value, arrived[other], doubts):
            return False
    if isinstance(sent, defaultdict) and isinstance(arrived, defaultdict):
        return sent.default_factory == arrived.default_factory
    return _attributes(sent, arrived, doubts)


def _attributes(sent: Any, arrived: Any, doubts: Doubts) -> bool:
    """What the instance of a subclass carries besides its items."""
    mine, others = getattr(sent, "__dict__", None), getattr(arrived, "__dict__", None)
    return not (mine or others) or (mine is not sent and same(mine, others, doubts))


def _objects(sent: Any, arrived: Any, doubts: Doubts) -> bool:
    if type(sent).__eq__ is _BY_IDENTITY:
        doubts.opaque = True
        return True
    try:
        return bool(sent == arrived)
    except Exception:  # the class is the user's: an array, for one, raises when its comparison is used as a truth
        doubts.opaque = True
        return True


#: In this order: an enum may be a str, a datetime is a date, a model is an object like any other.
_BY_BASE: tuple[tuple[type | tuple[type, ...], Comparison], ...] = (
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
