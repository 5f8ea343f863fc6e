"""What to annotate, so that a value travels: told to whoever passed or returned one that has no annotation."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from yadtq.shown import shown
from yadtq.values.annotation import Annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["advice"]

_MOST_CHARS = 120


def advice(value: Any, before: str) -> str:
    """`annotate it (-> tuple[int, int])`, if it would travel so. before: what the annotation comes after, as `->`."""
    try:
        hint = _hint(value)
        Annotation(hint).write(value, ("strings", "constants"))
        text = _text(hint)
    except Exception:  # the value is anybody's, and so are the schemas of its types: then there is no such annotation
        text = ""
    if text and len(text) <= _MOST_CHARS and text.isprintable():
        return f"annotate it ({before} {text}), or use plain data"
    return "use plain data, or annotate its type"


def _hint(value: Any) -> Any:
    """The type of a value, with those of its items."""
    kind = type(value)
    if kind is tuple:
        items = [_hint(item) for item in value]
        return tuple[tuple(items)] if len(items) <= 3 else tuple[_either(items), ...]  # type: ignore[misc]
    if kind in (list, set, frozenset):
        return kind[_either(map(_hint, value))] if value else kind
    if kind is dict and value:
        return dict[_either(map(_hint, value)), _either(map(_hint, value.values()))]  # type: ignore[misc]
    return None if value is None else kind


def _either(hints: Iterable[Any]) -> Any:
    return reduce(or_, dict.fromkeys(hints))


def _text(hint: Any) -> str:
    return shown(hint.__name__ if isinstance(hint, type) else repr(hint), _MOST_CHARS + 1)
