"""What waits to be claimed: fresh records, parked ones, and suspects. No I/O.

A parked record takes no concurrency slot. It is looked at again when it is due, when its task ends in this process, or when
a death certificate or a loss of Redis's data may have changed what it waits for.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yadtq.clock import Clock
    from yadtq.worker.delivery import Delivery

__all__ = ["Intake"]


class Intake:
    """Order: first come, first claimed; what was parked comes back behind what waits already."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fresh: deque[Delivery] = deque()
        self._parked: list[tuple[float, int, Delivery]] = []
        self._suspects: deque[Delivery] = deque()
        self._serial = count()
        #: Deliveries of a task that runs in this very process (a duplicate, or a record that came again), by task id.
        self._doubles: dict[str, list[Delivery]] = {}

    def add(self, deliveries: Iterable[Delivery]) -> None:
        self._fresh.extend(deliveries)

    def put_back(self, deliveries: list[Delivery]) -> None:
        """To the front, in their order: their claim could not be sent."""
        self._fresh.extendleft(reversed(deliveries))

    def park(self, delivery: Delivery, seconds: float) -> None:
        heapq.heappush(self._parked, (self._clock.monotonic() + seconds, next(self._serial), delivery))

    def park_suspect(self, delivery: Delivery) -> None:
        """It has crashed workers: to be claimed when no other suspect runs here."""
        self._suspects.append(delivery)

    def park_double(self, delivery: Delivery) -> None:
        """Its task runs here already, under another delivery's lease."""
        self._doubles.setdefault(delivery.envelope.id, []).append(delivery)

    def ended(self, task_id: str) -> None:
        """The task ran here and doesn't any more: doubles may find out how it went."""
        if self._doubles:
            self._fresh.extend(self._doubles.pop(task_id, ()))

    def wake_all(self) -> None:
        """Everything parked is due now."""
        self._fresh.extend(delivery for _, _, delivery in sorted(self._parked))
        self._parked.clear()

    def take(self, most: int) -> list[Delivery]:
        """Up to `most` deliveries to claim; those whose partition went to another worker are dropped on the way."""
        now = self._clock.monotonic()
        while self._parked and self._parked[0][0] <= now:
            self._fresh.append(heapq.heappop(self._parked)[2])
        taken: list[Delivery] = []
        while self._fresh and len(taken) < most:
            delivery = self._fresh.popleft()
            if not delivery.tracker.lost:
                taken.append(delivery)
        return taken

    def take_suspect(self) -> Delivery | None:
        while self._suspects:
            delivery = self._suspects.popleft()
            if not delivery.tracker.lost:
                return delivery
        return None

    def next_due(self) -> float | None:
        """Monotonic time at which something parked is due."""
        return self._parked[0][0] if self._parked else None

    @property
    def has_fresh(self) -> bool:
        return bool(self._fresh)

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    @property
    def parked(self) -> int:
        return len(self._parked) + len(self._suspects) + sum(map(len, self._doubles.values()))
