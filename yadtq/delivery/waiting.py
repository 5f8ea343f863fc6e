"""What waits to be claimed: fresh records, parked ones, and suspects. No I/O.

Partitions take turns: one with a long backlog must not keep a task of another waiting, least of all one that a dead worker
has left behind. Within a partition what was parked goes before what is fresh: it is the older.
A parked record takes no concurrency slot. It is looked at again when it is due, when its task ends in this process, or
when a death certificate or a loss of Redis's data may have changed what it waits for.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.tracker import PartitionTracker
    from yadtq.runtime.clock import Clock

__all__ = ["Intake"]

#: Where there is not room for one of each partition: turns of one would cost as much as the tasks.
_SHORT_TURN = 4


class Intake:
    """Deliveries of a partition that went to another worker are dropped on their way out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: By partition, none empty; the one at the front has waited longest for its turn.
        self._waiting: OrderedDict[PartitionTracker[Delivery], deque[Delivery]] = OrderedDict()
        self._parked: list[tuple[float, int, Delivery]] = []
        self._suspects: deque[Delivery] = deque()
        self._serial = count()
        #: Deliveries of a task that runs in this very process (a duplicate, or a record that came again), by task id.
        self._doubles: dict[str, list[Delivery]] = {}

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Fresh ones, behind what waits already."""
        for delivery in deliveries:
            self._queue_of(delivery).append(delivery)

    def put_first(self, deliveries: Iterable[Delivery]) -> None:
        """Before what waits already, in their order."""
        for delivery in reversed(list(deliveries)):
            self._queue_of(delivery).appendleft(delivery)

    def _queue_of(self, delivery: Delivery) -> deque[Delivery]:
        queue = self._waiting.get(delivery.tracker)
        if queue is None:
            queue = self._waiting[delivery.tracker] = deque()
        return queue

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
            self.put_first(self._doubles.pop(task_id, ()))

    def wake_all(self) -> None:
        """Everything parked is due now."""
        parked, self._parked = self._parked, []
        self.put_first(delivery for _, _, delivery in sorted(parked))

    def take(self, most: int) -> list[Delivery]:
        """Up to `most` deliveries to claim, of each partition its share."""
        if self._parked:
            self._wake_due()
        taken: list[Delivery] = []
        turn = (most // len(self._waiting) if self._waiting else 0) or _SHORT_TURN
        while self._waiting and len(taken) < most:
            tracker, queue = next(iter(self._waiting.items()))
            share = min(turn, most - len(taken))
            if tracker.lost:
                del self._waiting[tracker]
            elif len(queue) <= share:
                taken += queue
                del self._waiting[tracker]
            else:
                taken += [queue.popleft() for _ in range(share)]
                self._waiting.move_to_end(tracker)
        return taken

    def _wake_due(self) -> None:
        now = self._clock.monotonic()
        due = []
        while self._parked and self._parked[0][0] <= now:
            due.append(heapq.heappop(self._parked)[2])
        self.put_first(due)

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
        return bool(self._waiting)

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    @property
    def parked(self) -> int:
        return len(self._parked) + len(self._suspects) + sum(map(len, self._doubles.values()))
