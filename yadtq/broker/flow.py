"""How much may be fetched now, and from where: a pure decision.

Two bounds (G5). The window bounds memory: records received and not finished, those that wait for a retry included. The
span bounds repetition: how far a partition may run ahead of its watermark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yadtq.broker.tracker import PartitionTracker
    from yadtq.ports import Partition

__all__ = ["Allowance", "allowance"]


class Allowance(NamedTuple):
    """max_records: 0 means fetch nothing. partitions: those with room, None for all. stalled: those without."""

    max_records: int
    partitions: list[Partition] | None
    stalled: list[Partition]


def allowance(trackers: Mapping[Partition, PartitionTracker[Any]], *, window: int, span: int, most: int) -> Allowance:
    """most: records at once, whatever the room."""
    room = window
    stalled: list[Partition] = []
    least_span = span
    for partition, tracker in trackers.items():
        room -= tracker.in_flight
        left = span - tracker.span
        if left <= 0:
            stalled.append(partition)
        elif left < least_span:
            least_span = left
    if room <= 0 or (stalled and len(stalled) == len(trackers)):
        return Allowance(0, None, stalled)
    most = min(room, most, least_span)
    if not stalled:
        return Allowance(most, None, stalled)
    return Allowance(most, [partition for partition in trackers if partition not in stalled], stalled)
