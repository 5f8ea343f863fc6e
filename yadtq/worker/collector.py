"""Collects garbage when memory grows: for tasks that leave large objects in reference cycles.

The thresholds of Python's collector count objects, not bytes, and in a worker they are high (`calm_the_collector`):
3,000 tasks that each leave 100 KB in a cycle would take 300 MB before a round begins.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from yadtq.runtime.service import Periodic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Collector"]

_LOOK_S = 0.5
_GROWTH_BYTES = 32 * 2**20


class Collector(Periodic):
    """A service. rss_bytes: the memory of this process."""

    name = "collector"

    def __init__(self, rss_bytes: Callable[[], int]) -> None:
        super().__init__()
        self._rss_bytes = rss_bytes
        self._least = rss_bytes()

    def interval_s(self) -> float:
        return _LOOK_S

    async def tick(self) -> None:
        now = self._rss_bytes()
        if now > self._least + _GROWTH_BYTES:
            gc.collect(
                1
            )  # what recent tasks have left behind; collecting the oldest generation takes many times as long
            now = self._rss_bytes()
            self._least = now
        self._least = min(self._least, now)
