"""Tasks that only another version of the code can run: an unknown name, or arguments of another signature.

In a deploy old and new workers run side by side, and a record may come to either. It is sent on to a worker that knows
the task, as heartbeats say. While there is none it waits for a deploy; then the task ends in the dead-letter topic, or
FAILED with what is wrong with its arguments.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from yadtq.delivery.delivery import Elsewhere, Until
from yadtq.delivery.place import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

    from yadtq.delivery.delivery import Delivery
    from yadtq.task import Task

__all__ = ["WINDOW", "Candidate", "Others", "UnknownTasks", "destination"]

log = logging.getLogger("yadtq.worker")

#: Header of a copy: the seconds that are left of the window. Seconds, since the clocks of two hosts may differ.
WINDOW = "yadtq-window"
_LOOK_S = 1.0
_GONE = (Place.RELEASED, Place.DROPPED)


class Candidate(NamedTuple):
    """Another worker that runs. tasks: fingerprints by name. partitions: numbers, by topic."""

    worker: str
    tasks: Mapping[str, str]
    partitions: Mapping[str, Collection[int]]


class Others(Protocol):
    """The other workers, as they were at some time."""

    @property
    def read_at(self) -> float:
        """Monotonic seconds; what is known of them is at least as new."""
        ...

    @property
    def candidates(self) -> Collection[Candidate]: ...

    def wanted(self) -> None:
        """They should be looked at now. Does not wait."""
        ...


class NoOthers:
    """`Others` of a worker that is alone."""

    candidates: Collection[Candidate] = ()
    read_at = float("inf")

    def wanted(self) -> None: ...


def destination(delivery: Delivery, candidates: Collection[Candidate], *, exact: bool) -> Elsewhere | None:
    """A partition of a worker that knows the task, if any does. exact: only with the signature of whoever submitted it.

    `Elsewhere` without a partition: some know it, and none has a partition of this topic.
    """
    envelope, topic = delivery.envelope, delivery.record.topic
    knowing = [each for each in candidates if envelope.task in each.tasks]
    same = [each for each in knowing if each.tasks[envelope.task] == envelope.fingerprint]
    knowing = same if same or exact else knowing
    places = sorted((number, each.worker) for each in knowing for number in each.partitions.get(topic, ()))
    if places:
        return Elsewhere(*places[delivery.record.offset % len(places)])
    return Elsewhere(None, knowing[0].worker) if knowing else None


class UnknownTasks:
    """`delivery.Gate`. window_s: how long one waits for a deploy, with all moves; 0: not at all, it is also not sent on."""

    def __init__(self, window_s: float, others: Others | None = None) -> None:
        self._window_s = window_s
        self._others = others or NoOthers()
        self._look_s = min(_LOOK_S, window_s / 4)
        #: When each was first seen to be unknown, monotonic seconds.
        self._since: dict[Delivery, float] = {}
        self._clean_at = 64

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, delivery: Delivery) -> bool:
        """Whether it was found to be unknown, and has not been sent on or ended yet."""
        return delivery in self._since

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return task is None

    def keeps(self, delivery: Delivery, now: float) -> bool:
        """Its arguments don't fit the signature here: whether it waits or is sent on, instead of ending FAILED."""
        task, theirs = delivery.task, delivery.envelope.fingerprint
        if task is None or theirs is None or theirs == task.signature.fingerprint:
            return False  # arguments that fit no version
        if not self._window_s or (delivery in self._since and self.left_s(delivery, now) <= 0):
            return False
        if self not in delivery.gates:
            delivery.gates = (*delivery.gates, self)
        self._begin(delivery, now)
        return True

    def ask(self, delivery: Delivery, now: float) -> Until | Elsewhere | None:
        if delivery.defect or not self._window_s:
            return None
        since = self._begin(delivery, now)
        if self._others.read_at < since:
            self._others.wanted()
            return Until(self._look_s)
        found = destination(delivery, self._others.candidates, exact=delivery.task is not None)
        if found is not None and found.partition is not None:
            return found  # it stays in `_since` until it is acknowledged: `left_s` is asked for its copy
        self._others.wanted()
        if found is not None or self.left_s(delivery, now) > 0:  # while somebody knows it, it does not end here
            return Until(self._look_s)
        return None  # kept in `_since`: where its claim is refused, no new window begins

    def came_back(self, delivery: Delivery) -> Hashable | None:
        return None

    def left_s(self, delivery: Delivery, now: float) -> float:
        """Of its window, in seconds."""
        return _window_s(delivery, self._window_s) - (now - self._since.get(delivery, now))

    def forget(self, gone: Collection[Delivery]) -> None:
        for delivery in gone:
            self._since.pop(delivery, None)

    def _begin(self, delivery: Delivery, now: float) -> float:
        since = self._since.get(delivery)
        if since is None:
            if len(self._since) >= self._clean_at:
                self.forget([each for each in self._since if each.place in _GONE])
                self._clean_at = 2 * len(self._since) + 64
            since = self._since[delivery] = now
            what = "no such task here" if delivery.task is None else "another version of this task has submitted it"
            log.warning(
                "%r: %s; it goes to a worker that knows it, or waits %.0f s for a deploy",
                delivery,
                what,
                self.left_s(delivery, now),
            )
        return since


def _window_s(delivery: Delivery, most_s: float) -> float:
    """Of a copy what was left; anybody may have written the header."""
    for name, value in delivery.record.headers:
        if name == WINDOW:
            try:
                left_s = float(value or b"")
            except ValueError:
                return most_s
            return min(left_s, most_s) if left_s > 0 else 0.0
    return most_s
