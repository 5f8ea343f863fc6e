"""Which tasks this worker knows, and which the others know: read from their heartbeats, and only when it matters."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.client.roster import live_workers
from yadtq.delivery.gates.unknown import Candidate
from yadtq.errors import BrokerUnavailable
from yadtq.runtime.service import Service, Stage

if TYPE_CHECKING:
    from collections.abc import Collection

    from anyio.abc import TaskStatus as Started

    from yadtq.outside import Outside
    from yadtq.registry import Registry
    from yadtq.settings import Settings
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["Versions"]

log = logging.getLogger("yadtq.worker")

_AGAIN_S = 1.0
#: More names than these are not in a heartbeat, which would get too large.
_MOST = 1_000


class Versions(Service):
    """A service, and the `Others` of `UnknownTasks`."""

    name = "versions"
    stage = Stage.INTAKE

    def __init__(self, *, worker_id: str, outside: Outside, settings: Settings, registry: Registry) -> None:
        self._worker_id = worker_id
        self._outside = outside
        self._settings = settings
        self._registry = registry
        #: Of the tasks here, by name.
        self.fingerprints: dict[str, str] = {}
        self.candidates: Collection[Candidate] = ()
        self.read_at = float("-inf")
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()

    def wanted(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()

    async def drained(self) -> None:
        self.stop()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        for task in list(self._registry)[:_MOST]:
            # A few milliseconds each, so one at a time: tasks run meanwhile.
            self.fingerprints[task.name] = task.signature.fingerprint
            await asyncio.sleep(0)
        while not self._stopped.is_set():
            await self._woken.wait()
            self._woken.clear()
            if not self._stopped.is_set():
                await self._look()

    async def _look(self) -> None:
        began = self._outside.clock.monotonic()
        try:
            beats = await live_workers(self._outside, self._settings)
        except BrokerUnavailable as error:
            log.debug("the other workers are not seen now: %s", error)
        else:
            self.candidates = tuple(_candidate(beat) for beat in beats if self._is_other(beat))
            self.read_at = began
        with anyio.move_on_after(min(_AGAIN_S, self._settings.heartbeat_s)):  # not more often, however many ask
            await self._stopped.wait()

    def _is_other(self, beat: Heartbeat) -> bool:
        return beat.phase == "running" and beat.worker != self._worker_id


def _candidate(beat: Heartbeat) -> Candidate:
    partitions: dict[str, list[int]] = {}
    for place in beat.partitions:
        topic, _, number = place.rpartition("/")
        if number.isdecimal() and len(number) < 10:
            partitions.setdefault(topic, []).append(int(number))
    return Candidate(beat.worker, beat.tasks, partitions)
