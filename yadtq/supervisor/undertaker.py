"""Tells others that a worker has died: the death certificate, a last heartbeat, and the removal from the consumer
group.

All of it happens in the background. A successor must not wait for a server that is down, and correctness does not
depend on it: leases and group sessions end by themselves, only later.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import BrokerRefused, BrokerUnavailable, StoreUnavailable
from yadtq.runtime.seams import OutRecord
from yadtq.supervisor.events import tell
from yadtq.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    from yadtq.outside import Outside
    from yadtq.runtime.seams import Producer
    from yadtq.settings import Settings

__all__ = ["Undertaker", "new_worker_id"]

log = logging.getLogger("yadtq.supervisor")

_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 5.0
#: A certificate is useful only while the leases of the dead worker live; this is far beyond any lease.
_CERTIFY_FOR_LEASES = 10
#: Soon afterwards the session timeout does the same.
_LEAVE_S = 5.0


class Undertaker:
    """Background duties; `finish` at the end."""

    def __init__(
        self,
        *,
        outside: Outside,
        settings: Settings,
        producer: Producer,
    ) -> None:
        self._outside, self._settings, self._producer = outside, settings, producer
        self._clock = outside.clock
        self._duties: set[asyncio.Task[None]] = set()
        self._leaving: dict[str, list[Callable[[], None]]] = {}
        self._leaver: asyncio.Task[None] | None = None

    def certify(self, worker: str, *, outside: bool = False) -> None:
        """End the leases of this worker process, which must be dead."""
        self._start(self._certify(worker, outside=outside), f"yadtq-certify-{worker}")

    def announce(self, worker: str, slot: str, pid: int, seq: int) -> None:
        """Report on the heartbeat topic that it is dead, because it can't do so itself."""
        last = Heartbeat(
            worker=worker,
            slot=slot,
            host=self._outside.place.host,
            pid=pid,
            phase="dead",
            seq=seq,
            at=self._clock.time(),
        )
        self._start(self._announce(last), f"yadtq-announce-{worker}")

    def leave(self, slot: str, then: Callable[[], None]) -> None:
        """Take the slot out of the consumer group, and call `then` when that is done or given up.

        Until then nobody may join under this name: the request says whom to remove by the name alone.
        """
        self._leaving.setdefault(slot, []).append(then)
        if self._leaver is None:
            self._leaver = self._start(self._leave_all(), "yadtq-leave")

    async def finish(self, timeout_s: float) -> None:
        """Wait for the duties under way, then cancel those that remain."""
        with anyio.CancelScope(shield=True):
            if self._duties:
                await asyncio.wait(self._duties, timeout=timeout_s)
            for duty in self._duties:
                tell("unfinished", level=logging.WARNING, duty=duty.get_name())
                duty.cancel()
            if self._duties:
                await asyncio.wait(self._duties)

    def _start(self, duty: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_kept_apart(duty, name), name=name)
        self._duties.add(task)
        task.add_done_callback(self._duties.discard)
        return task

    async def _certify(self, worker: str, *, outside: bool) -> None:
        begun, retry_s = self._clock.monotonic(), _FIRST_RETRY_S
        while True:
            try:
                await self._outside.store.deaths.bury(worker, outside=outside)
            except StoreUnavailable as error:
                if self._clock.monotonic() - begun > _CERTIFY_FOR_LEASES * self._settings.lease_s:
                    tell("not-certified", level=logging.WARNING, worker=worker, cause=error)
                    return
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                tell("certified", worker=worker, after_s=self._clock.monotonic() - begun)
                return

    async def _announce(self, last: Heartbeat) -> None:
        try:
            await self._producer.append(
                [OutRecord(self._outside.names.heartbeats, last.encode(), key=last.worker.encode())]
            )
        except (BrokerUnavailable, BrokerRefused) as error:
            tell("not-announced", level=logging.WARNING, worker=last.worker, cause=error)

    async def _leave_all(self) -> None:
        """One request at a time, for all slots that wait for one: at the end of a supervisor all its slots leave
        together.
        """
        try:
            while self._leaving:
                await asyncio.sleep(0)
                slots = dict(self._leaving)
                begun = self._clock.monotonic()
                try:
                    await self._outside.broker.leave(list(slots), timeout_s=_LEAVE_S)
                    tell("left-group", slots=",".join(slots), after_s=self._clock.monotonic() - begun)
                except BrokerUnavailable as error:
                    # The session timeout removes them; until then nobody reads their partitions.
                    tell("not-left-group", level=logging.WARNING, slots=",".join(slots), cause=error)
                finally:
                    for slot in slots:
                        for then in self._leaving.pop(slot):
                            then()
        finally:
            self._leaver = None


async def _kept_apart(duty: Coroutine[None, None, None], name: str) -> None:
    try:
        await duty
    except Exception as error:  # a defect in one duty must not end the supervisor, whose workers are healthy
        log.exception("duty %s failed: %s", name, type(error).__name__)


def new_worker_id(slot: str, chance: random.Random) -> str:
    """New for each process: its successor in the slot has another, so that a certificate ends the right leases."""
    return f"{slot}:{chance.getrandbits(32):08x}"
