"""The live workers of an app, from the heartbeat topic: the clients' view of the workers.

Anybody who can write to the topic can forge a heartbeat, and a client can't check one. So the amount that is kept is
bounded, and a time stamp from the future hides no other worker.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from yadtq.errors import EnvelopeError
from yadtq.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.outside import Outside
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord
    from yadtq.settings import Settings

__all__ = ["Roster", "live_workers", "watch_workers"]

log = logging.getLogger("yadtq.client")

#: In memory a heartbeat takes about ten times what it takes on the wire.
_MOST_WORKERS, _MOST_BYTES = 20_000, 8 * 1024 * 1024
_PRUNE_EVERY_S = 1.0


class _Known(NamedTuple):
    """stamp: the record's time stamp. heard: when we read it, on our monotonic clock."""

    stamp: int
    heard: float
    size: int
    beat: Heartbeat


class Roster:
    """The latest heartbeat of each live worker. Records in, workers out; no I/O."""

    def __init__(
        self, silence_s: float, clock: Clock, *, most_workers: int = _MOST_WORKERS, most_bytes: int = _MOST_BYTES
    ) -> None:
        """silence_s: a worker whose last heartbeat is older counts as dead. most_*: limits; workers beyond them are
        left out.
        """
        self._silence_s, self._clock = silence_s, clock
        self._most_workers, self._most_bytes = most_workers, most_bytes
        self._latest: dict[str, _Known] = {}
        self._bytes = 0
        self._newest, self._newest_plausible = 0, 0
        self._pruned_at = float("-inf")
        self._told = False

    def read(self, record: ConsumedRecord) -> None:
        """Process one record; a record that is not a heartbeat (a supervisor's canary) is ignored."""
        try:
            beat = Heartbeat.decode(record.value)
        except EnvelopeError:
            return
        known = _Known(record.timestamp, self._clock.monotonic(), len(record.value or b""), beat)
        self._newest = max(self._newest, known.stamp)
        if known.stamp <= self._clock.time() * 1000 + self._silence_ms:
            self._newest_plausible = max(self._newest_plausible, known.stamp)
        self._forget(beat.worker)
        if beat.phase not in ("stopped", "dead") and self._has_room(known.size):
            self._latest[beat.worker] = known
            self._bytes += known.size

    def workers(self) -> list[Heartbeat]:
        """The workers with a recent heartbeat, by worker id."""
        return [known.beat for _, known in sorted(self._latest.items()) if self._is_live(known)]

    @property
    def _silence_ms(self) -> int:
        return int(self._silence_s * 1000)

    def _is_live(self, known: _Known) -> bool:
        # The newest record gives the time: a worker is silent compared with the others, not with this machine's clock.
        # But a time stamp that is ahead of this clock, too, is ignored, unless all are.
        now = self._newest_plausible or self._newest
        return known.stamp >= now - self._silence_ms and known.heard >= self._clock.monotonic() - self._silence_s

    def _has_room(self, size: int) -> bool:
        if len(self._latest) < self._most_workers and self._bytes + size <= self._most_bytes:
            return True
        now = self._clock.monotonic()
        if now - self._pruned_at >= _PRUNE_EVERY_S:  # not for each record, since it visits all workers
            self._pruned_at = now
            for worker in [worker for worker, known in self._latest.items() if not self._is_live(known)]:
                self._forget(worker)
            if len(self._latest) < self._most_workers and self._bytes + size <= self._most_bytes:
                return True
        if not self._told:
            self._told = True
            log.warning("more workers on the heartbeat topic than are kept (%d): some are left out", len(self._latest))
        return False

    def _forget(self, worker: str) -> None:
        if (known := self._latest.pop(worker, None)) is not None:
            self._bytes -= known.size


def _silence_s(settings: Settings) -> float:
    return 4 * settings.heartbeat_s + 1


async def live_workers(outside: Outside, settings: Settings) -> list[Heartbeat]:
    """Read the last few seconds of the topic. Raises `BrokerUnavailable` after `connect_timeout_s`."""
    silence_s = _silence_s(settings)
    roster = Roster(silence_s, outside.clock)
    for record in await outside.broker.recent(outside.names.heartbeats, silence_s):
        roster.read(record)
    return roster.workers()


async def watch_workers(outside: Outside, settings: Settings) -> AsyncIterator[list[Heartbeat]]:
    """The live workers, at once and again after every heartbeat interval."""
    silence_s = _silence_s(settings)
    roster = Roster(silence_s, outside.clock)
    async with outside.broker.tail(outside.names.heartbeats, since_s=silence_s) as tail:
        while True:
            until = asyncio.get_running_loop().time() + settings.heartbeat_s
            try:
                async with asyncio.timeout_at(until):
                    async for record in tail:
                        roster.read(record)
            except TimeoutError:
                pass  # the interval is over: report
            yield roster.workers()
