"""Keeps aiokafka's log readable, in every process that uses it: in an outage it writes a hundred lines a second that
all say the same.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimit", "WithoutLogins", "quieten"]

_EVERY_S = 10.0
#: Of requests and answers of Kafka's protocol.
_SASL_AUTHENTICATE = 36


class RateLimit(logging.Filter):
    """Lets a line of one place in the code through once in `every_s`, and then says how many it has held back.

    clock: monotonic seconds.
    """

    def __init__(self, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._last: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place = (record.pathname, record.lineno)
        last, held_back = self._last.get(place, (float("-inf"), 0))
        now = self._clock()
        if now - last < self._every_s:
            self._last[place] = (last, held_back + 1)
            return False
        self._last[place] = (now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} (and {held_back} more like it)"
            record.args = ()
        return True


class WithoutLogins(logging.Filter):
    """Holds back the lines that show a login: at DEBUG aiokafka logs each request, and that of PLAIN has the password."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any(getattr(argument, "API_KEY", None) == _SASL_AUTHENTICATE for argument in arguments)


_limit = RateLimit()
_without_logins = WithoutLogins()


def quieten() -> None:
    """Limit aiokafka's warnings and errors in this process, and hide logins. May be called repeatedly.

    On the loggers of its modules: one of the logger above them would not see their lines, and the handlers are the
    application's.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("aiokafka"):
            logging.getLogger(name).addFilter(_limit)
            logging.getLogger(name).addFilter(_without_logins)
