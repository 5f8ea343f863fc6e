"""The one place where YADTQ reads time, so that a test can control it.

Two clocks, never mixed: `monotonic` for deadlines and ages within a process, `time` for time stamps that other
processes read. Leases use neither: they use Redis's clock.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Seconds, as floats."""

    def monotonic(self) -> float:
        """Seconds that never go backwards; comparable only within this process."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
