"""One line per event, for people and for programs: `event=died slot=... worker=... pid=... cause="signal 9"`."""

from __future__ import annotations

import json
import logging

__all__ = ["tell"]

log = logging.getLogger("yadtq.supervisor")


def tell(event: str, *, level: int = logging.INFO, **facts: object) -> None:
    """facts: in this order; those that are None are left out. Names and formats are stable: scripts read them."""
    words = [f"{name}={_word(fact)}" for name, fact in facts.items() if fact is not None]
    log.log(level, "%s", " ".join([f"event={event}", *words]))


def _word(fact: object) -> str:
    if isinstance(fact, float):
        return f"{fact:.3f}"
    text = str(fact)
    return json.dumps(text, ensure_ascii=False) if not text or any(sign in text for sign in ' "=\n') else text
