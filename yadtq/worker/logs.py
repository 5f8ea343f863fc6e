"""Keeps aiokafka's log readable: in an outage it writes a hundred lines a second that all say the same."""

from __future__ import annotations

import logging
import time

__all__ = ["RateLimit", "quieten_aiokafka"]

_EVERY_S = 5.0


class RateLimit(logging.Filter):
    """Lets a line of one place in the code through once in `every_s`, and then says how many it has held back."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._last: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        last, held_back = self._last.get(place, (-self._every_s, 0))
        now = time.monotonic()
        if now - last < self._every_s:
            self._last[place] = (last, held_back + 1)
            return False
        self._last[place] = (now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} (and {held_back} more like it)"
            record.args = ()
        return True


def quieten_aiokafka() -> None:
    """Warnings and errors only, rate-limited. On the handlers, since a logger's filter does not see its children's lines."""
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, logging.getLogger().level))
    limit = RateLimit()
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith("aiokafka") or limit.filter(record))
