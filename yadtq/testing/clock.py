"""A clock that moves only by hand. It counts nanoseconds in an int, so that sums of steps are exact."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """`yadtq.runtime.clock.Clock` for tests. time: seconds since the epoch at the start."""

    __slots__ = ("_monotonic_ns", "_time_ns")

    def __init__(self, time: float = 1_700_000_000.0) -> None:
        self._monotonic_ns = 0
        self._time_ns = round(time * 1e9)

    def monotonic(self) -> float:
        return self._monotonic_ns / 1e9

    def time(self) -> float:
        return self._time_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Time passes, on both clocks."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds:g} s")
        step = round(seconds * 1e9)
        self._monotonic_ns += step
        self._time_ns += step

    def set_time(self, time: float) -> None:
        """Somebody sets the wall clock, forwards or backwards; the monotonic one does not notice."""
        self._time_ns = round(time * 1e9)
