"""How much may be fetched now, and from where: a pure decision.

Three bounds (G5). The window and the bytes bound memory: records received and not finished. The span bounds repetition: how
far a partition may run ahead of its watermark. Every partition has its share of the window, so that one with a long backlog
can't fill it and keep the others from being read at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from yadtq.delivery.tracker import PartitionTracker
    from yadtq.runtime.seams import Partition

__all__ = ["LEAST_SHARE", "Allowance", "allowance"]

#: With many partitions the window grows to this much for each: smaller polls would cost more than they fetch.
LEAST_SHARE = 64
_ASIDE_WINDOWS = 10


class Allowance(NamedTuple):
    """max_records: 0 means fetch nothing. partitions: those with room, None for all.

    stalled: those that have used up their span, because one record holds the watermark back.
    """

    max_records: int
    partitions: list[Partition] | None
    stalled: list[Partition]


def allowance(
    assigned: Collection[Partition],
    trackers: Mapping[Partition, PartitionTracker[Any]],
    *,
    window: int,
    span: int,
    most: int,
    most_bytes: int,
) -> Allowance:
    """most: records at once, at most, even if there is more room. most_bytes: of all values that are held, whether they
    run or wait; one fetch may bring a little more.

    A poll may bring all its records from one partition. So a partition is polled only while it uses less than half of
    its share, and for the other half at most. Records that wait for a time or an event do not count, up to ten windows
    of them: a thousand tasks in a back-off must not delay an ordinary one behind them.
    """
    half_share = max(window // max(1, len(assigned)), LEAST_SHARE) // 2
    most = min(most, half_share)
    aside_counts = sum(tracker.aside for tracker in trackers.values()) > _ASIDE_WINDOWS * window
    roomy: list[Partition] = []
    stalled: list[Partition] = []
    for partition in assigned:
        tracker = trackers.get(partition)
        left = span if tracker is None else span - tracker.span
        if left <= 0:
            stalled.append(partition)
        elif tracker is None or tracker.in_flight - (0 if aside_counts else tracker.aside) < half_share:
            roomy.append(partition)
            most = min(most, left)
    if not roomy or sum(tracker.bytes for tracker in trackers.values()) >= most_bytes:
        return Allowance(0, None, stalled)
    return Allowance(most, None if len(roomy) == len(assigned) else roomy, stalled)
