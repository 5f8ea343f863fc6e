"""One line per event, for people and for programs: `event=died slot=... worker=... pid=... cause="signal 9"`.

A value may come from others: an error of a worker, a name in a heartbeat. What could be taken for something else, or do
something to a terminal, is a JSON string in quotes, so that no value can forge a line or another value.
"""

from __future__ import annotations

import json
import logging

__all__ = ["tell"]

log = logging.getLogger("yadtq.supervisor")

_LONGEST = 2_000


def tell(event: str, *, level: int = logging.INFO, **facts: object) -> None:
    """facts: in this order; those that are None are left out. Names and formats are stable: scripts read them."""
    words = [f"{name}={_word(fact)}" for name, fact in facts.items() if fact is not None]
    log.log(level, "%s", " ".join([f"event={event}", *words]))


def _word(fact: object) -> str:
    if isinstance(fact, float):
        return f"{fact:.3f}"
    text = str(fact)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 3]}..."
    if not text.isprintable():  # false for control characters, line separators, bidirectional overrides and surrogates
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or any(sign in text for sign in ' "=') else text
