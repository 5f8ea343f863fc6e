"""The present state of a worker, as one value: for its heartbeat and other reports."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yadtq.execution.events import Listener
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.execution.outcome import Outcome
    from yadtq.wire.heartbeat import RunningTask

__all__ = ["Counters", "WorkerFacts", "rss_bytes"]

# As globals: an access to a member of an enum costs 70 ns in Python 3.11, and these are made for every task.
_SUCCESS, _RETRYING = TaskStatus.SUCCESS, TaskStatus.RETRYING
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """running: the oldest hundred. partitions: records not finished, by topic/partition. parked: waiting for something.

    store: the name of Redis's data set. failing: services whose last rounds failed, with how many. tasks: fingerprints by
    name.
    """

    running: tuple[RunningTask, ...]
    partitions: dict[str, int]
    parked: int
    succeeded: int
    failed: int
    retried: int
    fenced: int
    store: str
    failing: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)


class Counters(Listener):
    """Since the start of the process."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.retried = 0
        self.fenced = 0

    def ended(self, outcomes: Sequence[Outcome], accepted: Sequence[bool]) -> None:
        for outcome, ok in zip(outcomes, accepted, strict=True):
            if not ok:
                self.fenced += 1
            elif outcome.status is _SUCCESS:
                self.succeeded += 1
            elif outcome.status is _RETRYING:
                self.retried += 1
            else:
                self.failed += 1


def rss_bytes() -> int:
    """Resident memory; 0 where /proc is not there."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except OSError:
        return 0
