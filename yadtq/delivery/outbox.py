"""Records that must be in Kafka before something else may happen: dead letters, copies of stragglers, sequels.

An entry never blocks others: it holds no slot, and `put` returns at once. What depends on it (an offset
that is released, an outcome that is stored) is done when all in-sync replicas have its records, and not before. While
Kafka is away the entries are kept; their number is bounded by the number of records in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import anyio

from yadtq.errors import BrokerRefused, BrokerUnavailable
from yadtq.runtime.outages import OutageLog
from yadtq.runtime.service import Service, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import OutRecord, Producer

    Instead = Callable[[str, bool], "Sequence[OutRecord] | None"]

__all__ = ["Outbox"]

log = logging.getLogger("yadtq.worker")

_RETRY_S = 0.5
_REFUSED_RETRY_S = 10.0
#: Records in one append, at most. They may be a megabyte each.
_MOST = 100


class _Entry(NamedTuple):
    records: Sequence[OutRecord]
    then: Callable[[], None]
    instead: Instead | None


class Outbox(Service):
    """A service. It appends in the order of `put`, many entries an append."""

    name = "outbox"
    stage = Stage.OUTBOX

    def __init__(self, *, producer: Producer, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock
        self._outages = OutageLog(log, clock, "Kafka, for the outbox,")
        self._entries: deque[_Entry] = deque()
        #: Refused for a reason that an operator may remove, with the monotonic time of the next try.
        self._refused: deque[tuple[float, _Entry]] = deque()
        self._woken = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._entries) + len(self._refused)

    def put(self, records: Sequence[OutRecord], then: Callable[[], None], instead: Instead | None = None) -> None:
        """Append all of `records`, then call `then`, once. Neither callback may wait or raise.

        instead: called if Kafka refuses them permanently (too large, forbidden), with the reason and whether a smaller
        record might do: returns other records, or None to drop the entry without `then`. Without `instead` they are
        tried again at long intervals: what depends on them must not happen earlier.
        """
        self._entries.append(_Entry(records, then, instead))
        self._empty.clear()
        self._woken.set()

    def stop(self) -> None:
        """`run` returns when everything is appended, or Kafka has not taken it once more."""
        self._stopped = True
        self._woken.set()

    async def drained(self) -> None:
        await self._empty.wait()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while len(self) or not self._stopped:
            self._take_up_refused()
            if not self._entries:
                if self._stopped:
                    break
                if not self._refused:
                    self._empty.set()
                await self._wait()
            elif not await self._append() and self._stopped:
                break
        if len(self):
            log.error("%d entries of the outbox are dropped: their records will be delivered again", len(self))
        self._empty.set()

    async def _wait(self) -> None:
        self._woken.clear()
        seconds = None if not self._refused else max(0.0, self._refused[0][0] - self._clock.monotonic())
        with anyio.move_on_after(seconds):
            await self._woken.wait()

    def _take_up_refused(self) -> None:
        now = self._clock.monotonic()
        while self._refused and self._refused[0][0] <= now:
            self._entries.append(self._refused.popleft()[1])

    async def _append(self) -> bool:
        """False: Kafka is away."""
        entries, records = self._next()
        try:
            await self._producer.append(records)
        except BrokerUnavailable as error:
            self._outages.failed(error)
            doubtful = range(len(records)) if error.uncertain is None else error.uncertain
            self._settle(entries, set(doubtful) - error.refused.keys(), error.refused, frozenset())
            await anyio.sleep(_RETRY_S)
            return False
        except BrokerRefused as error:
            self._settle(entries, set(), error.refused, error.too_large)
        else:
            self._settle(entries, set(), {}, frozenset())
        if self._outages.open:
            self._outages.answered()
        return True

    def _next(self) -> tuple[int, list[OutRecord]]:
        """Whole entries from the front, as many as fit into an append, one at least."""
        records: list[OutRecord] = []
        for count, entry in enumerate(self._entries):
            if count and len(records) + len(entry.records) > _MOST:
                return count, records
            records += entry.records
        return len(self._entries), records

    def _settle(
        self, count: int, doubtful: Collection[int], refused: Mapping[int, str], too_large: Collection[int]
    ) -> None:
        """The first `count` entries were sent. doubtful, refused, too_large: by the place of a record among all of
        them.
        """
        sent = [self._entries.popleft() for _ in range(count)]
        again = []
        at = 0
        for entry in sent:
            places = range(at, at := at + len(entry.records))
            if any(place in doubtful for place in places):
                again.append(entry)  # as a whole: a duplicate record is recognised by its id
            elif reasons := [refused[place] for place in places if place in refused]:
                self._refuse(entry, reasons[0], too_large=any(place in too_large for place in places))
            else:
                entry.then()
        self._entries.extendleft(reversed(again))

    def _refuse(self, entry: _Entry, reason: str, *, too_large: bool) -> None:
        if entry.instead is None:
            log.error(
                "Kafka refuses records of the outbox; they are tried again every %g s: %s", _REFUSED_RETRY_S, reason
            )
            self._refused.append((self._clock.monotonic() + _REFUSED_RETRY_S, entry))
        elif (records := entry.instead(reason, too_large)) is not None:
            self._entries.append(_Entry(records, entry.then, None))
