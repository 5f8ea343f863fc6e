"""What an exception says, read without trust: its class, message and attributes are code of the task.

No function here raises, whatever the exception is made of, and none takes long because a task chained or grouped a
million of them.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["frames_of", "message_of", "traceback_of", "type_name"]

_TRACEBACK_CHARS = 8_000
_MESSAGE_CHARS = 4_000
_NAME_CHARS = 200
_FRAMES = 100
#: With more causes and members than this, only the frames of the exception itself are shown.
_MOST_CHAINED = 300
#: Folders whose frames are between the worker and the task's own.
_MACHINERY = (
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "testing" / "kit"),
    str(Path(anyio.__file__).parent),
)

# As Python's own code reads them: a class may hide each behind a property that raises.
_name: Any = type.__dict__["__name__"].__get__
_frames: Any = BaseException.__dict__["__traceback__"].__get__
_members: Any = BaseExceptionGroup.__dict__["exceptions"].__get__
_links: Any = [BaseException.__dict__[name].__get__ for name in ("__cause__", "__context__")]


def type_name(error: BaseException) -> str:
    """The name of its class."""
    name: str = _name(type(error))
    return name[:_NAME_CHARS]


def frames_of(error: BaseException) -> TracebackType | None:
    """Its traceback."""
    frames: TracebackType | None = _frames(error)
    return frames


def message_of(error: BaseException) -> str:
    """The beginning of `str(error)`, or what that raised."""
    try:
        # Not `str(error)[...]`: it may be of a subclass, whose methods are the task's, too.
        return str.__getitem__(str(error), slice(_MESSAGE_CHARS))
    except BaseException as broken:  # also SystemExit and CancelledError: it is only a message
        return f"(its message raised {type_name(broken)})"


def traceback_of(error: BaseException) -> str:
    """The task's own frames, without those of YADTQ; of a long traceback the end is kept."""
    frames = frames_of(error)
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_MACHINERY):
        frames = frames.tb_next
    try:
        if _chained(error) <= _MOST_CHAINED:
            lines = traceback.format_exception(type(error), error, frames, limit=-_FRAMES)
            return "".join(lines)[-_TRACEBACK_CHARS:]
        reason = f"more than {_MOST_CHAINED} exceptions belong to it"
    except BaseException as broken:  # a SyntaxError whose text is bytes, for example: then use the frames alone
        reason = f"the error could not be formatted: {type_name(broken)}"
    return "".join([*traceback.format_tb(frames, limit=-_FRAMES), f"({reason})"])[-_TRACEBACK_CHARS:]


def _chained(error: BaseException) -> int:
    """How many exceptions hang on it, itself included; counting ends soon after `_MOST_CHAINED`."""
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) <= _MOST_CHAINED:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        waiting += [linked for link in _links if (linked := link(each)) is not None]
        if issubclass(type(each), BaseExceptionGroup):
            waiting += _members(each)[: _MOST_CHAINED + 1]
    return len(seen)
