"""One line per event, for people and for programs: `event=died slot=... worker=... pid=... cause="signal 9"`.

A value may come from others: an error of a worker, a name in a heartbeat. A value that could be misread, or that
contains control characters, is written as a JSON string in quotes, so that no value can forge a line or another value.

The log is shared with the workers, whose tasks may print anything. A program that acts on events reads them from a
separate pipe (`EventPipe`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os

__all__ = ["EventPipe", "tell"]

log = logging.getLogger("yadtq.supervisor")

_LONGEST = 2_000
_FACTS = "yadtq_facts"


def tell(event: str, *, level: int = logging.INFO, **facts: object) -> None:
    """facts: in this order; those that are None are left out. Names and formats are stable: scripts read them."""
    words = [f"{name}={_word(fact)}" for name, fact in facts.items() if fact is not None]
    log.log(level, "%s", " ".join([f"event={event}", *words]), extra={_FACTS: {"event": event, **facts}})


class EventPipe(logging.Handler):
    """Writes each event as a line of JSON to a file descriptor. Events are dropped if the reader is too slow."""

    def __init__(self, fd: int) -> None:
        """Raises OSError if there is no such descriptor."""
        super().__init__()
        os.set_blocking(fd, False)  # a reader that hangs must not block the supervisor
        os.set_inheritable(fd, False)  # no worker may write to it
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, _FACTS, None)
        if facts is not None:
            told = {name: fact for name, fact in facts.items() if fact is not None}
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._fd, json.dumps(told, default=str).encode() + b"\n")


def _word(fact: object) -> str:
    if isinstance(fact, float):
        return f"{fact:.3f}"
    text = str(fact)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 3]}..."
    if not text.isprintable():  # false for control characters, line separators, bidirectional overrides and surrogates
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or any(sign in text for sign in ' "=') else text
