"""Partitions take turns: one with a long backlog must not keep a task of another waiting.

This matters most for tasks that a dead worker has left behind. Within a partition, first come first served.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from yadtq.delivery.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.delivery.delivery import Delivery, Source

__all__ = ["PartitionTurns"]

#: Turn length when there are more partitions than slots; with turns of one the turning would cost as much as the tasks.
_SHORT_TURN = 4


class PartitionTurns:
    """`turns.Turns`."""

    def __init__(self) -> None:
        #: None empty; the one at the front has waited longest for its turn.
        self._queues: OrderedDict[Source, deque[Delivery]] = OrderedDict()

    def add(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._queue(deliveries[0].source).extend(deliveries)

    def put_first(self, delivery: Delivery) -> None:
        self._queue(delivery.source).appendleft(delivery)

    def _queue(self, source: Source) -> deque[Delivery]:
        queue = self._queues.get(source)
        if queue is None:
            queue = self._queues[source] = deque()
        return queue

    def take(self, most: int) -> list[Delivery]:
        queues = self._queues
        taken: list[Delivery] = []
        turn = (most // len(queues) if queues else 0) or _SHORT_TURN
        while queues and len(taken) < most:
            source, queue = next(iter(queues.items()))
            share = min(turn, most - len(taken))
            if source.lost:
                del queues[source]
                for delivery in queue:
                    delivery.place = Place.DROPPED
            elif len(queue) <= share:
                taken += queue
                del queues[source]
            else:
                taken += [queue.popleft() for _ in range(share)]
                queues.move_to_end(source)
        return taken

    def waiting(self) -> list[Delivery]:
        return [delivery for queue in self._queues.values() for delivery in queue]
