"""What is wrong with a value, in one short line, also if it contains foreign text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.shown import shown, shown_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError

__all__ = ["first_line", "problems", "reason"]

_LINE_CHARS = 300
_PART_CHARS = 60


def problems(error: ValidationError, names: Sequence[str] = ()) -> str:
    """`where: what, got ...` of each thing that is wrong. names: of the positional arguments, for those told by number."""
    parts = []
    for problem in error.errors(include_url=False, include_context=False):
        where = [shown(part, _PART_CHARS) for part in problem["loc"]]  # keys of a dict are somebody's text
        if where and isinstance(problem["loc"][0], int) and problem["loc"][0] < len(names):
            where[0] = names[problem["loc"][0]]
        got = "" if problem["type"].startswith("missing") else f", got {shown_value(problem['input'])}"
        prefix = f"{'.'.join(where)}: " if where else ""
        parts.append(f"{prefix}{_one_line(problem['msg'])}{got}")
        if len(parts) == 5:  # of a list of a million wrong items
            break
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


def reason(error: BaseException) -> str:
    """The message of an exception that anything may have raised."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself: pass a reference to the data"
    try:
        text = str(error)
    except Exception as broken:  # the message is made by code of the user's
        text = f"its message raised {type(broken).__name__}"
    return _one_line(text) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Of a message of several lines, as pydantic's are: the rest is advice on pydantic."""
    lines = str(error).strip().splitlines()
    return _one_line(lines[0]) if lines else type(error).__name__


def _one_line(text: str) -> str:
    return shown(" ".join(text.split()), _LINE_CHARS)
