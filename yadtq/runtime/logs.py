"""How our processes write their logs: text of a task, a name or an error can't be mistaken for a line of our own."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from yadtq.shown import shown

__all__ = ["OneLine", "log_to_stderr", "marked"]

_LONG = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_BRIEF = "%(levelname)s %(name)s: %(message)s"
#: Characters of a message; the rest is cut off.
_MOST = 8_000


class OneLine(logging.Formatter):
    """Escapes what is not printable. Further lines, as those of a traceback, begin with `| `.

    Without the mark, foreign text could be mistaken for the next line of the log.
    A line that a task has logged begins with the task's name, its id, and the attempt (`execution/tasklog.py`).
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        first, newline, more = record.message.partition("\n")
        if (task_id := getattr(record, "yadtq_id", "")) and not record.name.startswith("yadtq."):
            first = f"[{record.yadtq_task} {task_id} {record.yadtq_attempt}] {first}"  # type: ignore[attr-defined]
        record.message = f"{shown(first, _MOST)}{newline}{marked(more)}"
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        return marked(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:
        return marked(super().formatStack(stack_info))


def marked(text: str) -> str:
    """Escaped, and each line begins with `| `."""
    return "\n".join(f"| {shown(line, _MOST)}" for line in text.splitlines())


def log_to_stderr(level: int | str, *, brief: bool = False) -> None:
    """For our own processes. A program that uses YADTQ as a library keeps its own logging."""
    handler = logging.StreamHandler(_own(sys.stderr))
    handler.setFormatter(OneLine(_BRIEF if brief else _LONG))
    logging.basicConfig(level=level, handlers=[handler])


def _own(stream: TextIO) -> TextIO:
    """The same file by a descriptor that only the log uses.

    A task may close stderr. Its descriptor then is that of the next connection, into which the log would write.
    """
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, none, or no file, as in tests
        return stream
    return open(descriptor, "w", encoding=stream.encoding, errors="backslashreplace", closefd=False)
