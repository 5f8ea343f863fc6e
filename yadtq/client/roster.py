"""Who works for an app, as told by the heartbeat topic: the clients' view of the workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from yadtq.errors import EnvelopeError
from yadtq.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from yadtq.runtime.seams import Broker, ConsumedRecord
    from yadtq.settings import Settings

__all__ = ["Roster", "live_workers", "watch_workers"]


class Roster:
    """The latest heartbeat of each live worker. Pure: records in, workers out."""

    def __init__(self, silence_s: float) -> None:
        """silence_s: a worker whose last heartbeat is older is taken for dead."""
        self._silence_s = silence_s
        self._latest: dict[str, tuple[int, Heartbeat]] = {}

    def read(self, record: ConsumedRecord) -> None:
        """Take in one record; what is no heartbeat (a supervisor's canary) is passed over."""
        try:
            heartbeat = Heartbeat.decode(record.value)
        except EnvelopeError:
            return
        if heartbeat.phase in ("stopped", "dead"):
            self._latest.pop(heartbeat.worker, None)
        else:
            self._latest[heartbeat.worker] = (record.timestamp, heartbeat)

    def workers(self, now_ms: int) -> list[Heartbeat]:
        """Those heard of lately, by worker id. now_ms: on the clock of the records' time stamps."""
        oldest = now_ms - int(self._silence_s * 1000)
        return [beat for _, (stamp, beat) in sorted(self._latest.items()) if stamp >= oldest]


def _silence_s(settings: Settings) -> float:
    return 4 * settings.heartbeat_s + 1


async def live_workers(broker: Broker, settings: Settings, topic: str) -> list[Heartbeat]:
    """Read the last few seconds of the topic. Raises `BrokerUnavailable` after `connect_timeout_s`."""
    silence_s = _silence_s(settings)
    records = await broker.recent(topic, silence_s)
    return _roster(records, silence_s)


def _roster(records: Iterable[ConsumedRecord], silence_s: float) -> list[Heartbeat]:
    roster = Roster(silence_s)
    newest = 0
    for record in records:
        roster.read(record)
        newest = max(newest, record.timestamp)
    # The newest record tells the time: whoever is silent is so against the others, not against this machine's clock.
    return roster.workers(newest)


async def watch_workers(broker: Broker, settings: Settings, topic: str) -> AsyncIterator[list[Heartbeat]]:
    """The live workers, at once and again after every heartbeat interval in which something was heard."""
    silence_s = _silence_s(settings)
    roster = Roster(silence_s)
    newest = 0
    async with broker.tail(topic, since_s=silence_s) as tail:
        while True:
            until = asyncio.get_running_loop().time() + settings.heartbeat_s
            try:
                async with asyncio.timeout_at(until):
                    async for record in tail:
                        roster.read(record)
                        newest = max(newest, record.timestamp)
            except TimeoutError:
                pass  # the interval is over: tell what was heard
            yield roster.workers(newest)
