"""The ids of the tasks that an attempt submits.

An attempt that is run again would submit its tasks once more. So their ids are made of the parent's id and of the call:
the same call of a later attempt has the same id, and the same id never runs twice.
"""

from __future__ import annotations

import hashlib
from bisect import insort

__all__ = ["Children"]

#: Different calls of one attempt that are remembered (14 MB). Later ones are told apart by their order alone.
_MOST = 100_000


class Children:
    """Of one attempt. parent: the id of its task. Used in one event loop."""

    def __init__(self, parent: str, *, most: int = _MOST) -> None:
        self._parent = parent
        self._most = most
        #: How many equal calls there were, by the id of the first one.
        self._counts: dict[str, int] = {}
        #: Of equal calls after the first: the id of the first one, and the number.
        self._repeated: dict[str, tuple[str, int]] = {}
        self._unsent: dict[str, list[tuple[int, str]]] = {}
        self._uncounted = 0

    def id_for(self, call: bytes) -> str:
        """The id of the next task with this call. call: queue, task and arguments, the same bytes in every attempt."""
        first = self._hash(call, 0)
        if unsent := self._unsent.get(first):
            return unsent.pop(0)[1]
        number = self._counts.get(first, 0)
        if not number and len(self._counts) >= self._most:
            self._uncounted += 1
            return self._hash(call, -self._uncounted)
        self._counts[first] = number + 1
        if not number:
            return first
        task_id = self._hash(call, number)
        self._repeated[task_id] = first, number
        return task_id

    def not_sent(self, task_id: str) -> None:
        """The submit has failed, or its outcome is unknown: if it is repeated, it gets the same id."""
        first, number = self._repeated.get(task_id, (task_id, 0))
        if first in self._counts:
            insort(self._unsent.setdefault(first, []), (number, task_id))

    def _hash(self, call: bytes, number: int) -> str:
        """As long as a random id."""
        parts = b"%s %d %s" % (self._parent.encode(), number, call)
        return hashlib.blake2b(parts, digest_size=12).hexdigest()
