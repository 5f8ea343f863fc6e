"""The conservation laws of a worker, checkable between any two steps of its loop: for tests and the simulation.

every delivery in flight is in exactly one place, the one in its `place` attribute
every delivery that is being claimed is of a claim on its way
free + reserved + running slots = concurrency
every running attempt has a slot, and is the attempt of a delivery that is RUNNING
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from yadtq.delivery.place import Place

if TYPE_CHECKING:
    from yadtq.delivery.claimer import Claimer
    from yadtq.delivery.completer import Completer
    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.partitions import Partitions
    from yadtq.delivery.waiting import WaitingRoom
    from yadtq.execution.executor import Executor

__all__ = ["audit"]

#: Places whose part keeps no list to compare with.
_UNLISTED = (Place.CLAIMING, Place.OUTBOX)


def audit(
    *, partitions: Partitions, room: WaitingRoom, claimer: Claimer, executor: Executor, completer: Completer
) -> list[str]:
    """The violations, as messages; empty if all laws hold."""
    found: list[str] = []
    listed: dict[Place, list[Delivery]] = room.contents()
    listed[Place.RUNNING] = [attempt.origin for attempt in executor.attempts()]
    listed[Place.STORING] = completer.storing()
    seen: Counter[int] = Counter()
    for place, deliveries in listed.items():
        for delivery in deliveries:
            seen[id(delivery)] += 1
            if delivery.place is not place:
                found.append(f"{delivery!r} is in {place.value} and says {delivery.place.value}")
    claiming = 0
    for delivery in partitions.in_flight():
        claiming += delivery.place is Place.CLAIMING
        if delivery.place in _UNLISTED:
            continue
        if (count := seen[id(delivery)]) != 1:
            found.append(f"{delivery!r} ({delivery.place.value}) is in {count} places")
    slots = executor.slots
    if slots.free + slots.reserved + slots.running != slots.total or min(slots.free, slots.reserved, slots.running) < 0:
        found.append(f"slots: {slots.free} free, {slots.reserved} reserved, {slots.running} running of {slots.total}")
    if slots.running != (attempts := len(listed[Place.RUNNING])):
        found.append(f"slots: {slots.running} taken by {attempts} attempts")
    if claiming > claimer.claiming:  # fewer: those of lost partitions and moved ones are no longer in flight
        found.append(
            f"{claiming} deliveries say that they are being claimed, of {claimer.claiming} claims on their way"
        )
    for tracker in partitions.trackers.values():
        size = sum(len(delivery.record.value or b"") for delivery in tracker.items())
        if tracker.bytes != size:
            found.append(f"{tracker.bytes} bytes are counted of {size} in flight")
    if claimer.claiming != slots.reserved:
        found.append(f"slots: {slots.reserved} reserved for {claimer.claiming} claims on their way")
    return found
