"""The end of a worker, stage by stage: each is drained under a deadline before the next one begins
(runtime/service.py).

Tasks that can't be drained in time are left to other workers: their offsets are not committed and their leases end, so
they are run again.
"""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

import anyio

from yadtq.runtime.service import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.runtime.service import Service

__all__ = ["drain", "in_order"]

log = logging.getLogger("yadtq.worker")

_HURRY_S = 5.0
#: Resources: the lifespan closes. Membership: the consumer's stop and a request to leave. Report: the last heartbeat.
_OTHERS_S = 12.0


def in_order(services: Sequence[Service]) -> list[Service]:
    """The order of draining; the start uses the reverse order."""
    return sorted(services, key=lambda service: service.stage)


async def drain(services: Sequence[Service], *, grace_s: float, lease_s: float, impatient: anyio.Event) -> None:
    """grace_s: for running tasks, or until `impatient` is set. lease_s: for what is useless after the leases have
    ended.
    """
    seconds = {Stage.RUN: grace_s, Stage.OUTCOME: lease_s, Stage.OUTBOX: lease_s, Stage.COMMIT: lease_s}
    for stage, group in groupby(in_order(services), key=lambda service: service.stage):
        members = list(group)
        patience = impatient if stage is Stage.RUN else anyio.Event()
        if not await _drained(members, seconds.get(stage, _OTHERS_S), patience):
            for service in members:
                service.hurry()
            if not await _drained(members, _HURRY_S, anyio.Event()):
                log.warning("not drained in time: %s", ", ".join(service.name for service in members))
        if stage is not Stage.REPORT:  # the last heartbeat is sent after all other services have ended
            for service in members:
                service.stop()


async def _drained(services: Sequence[Service], seconds: float, impatient: anyio.Event) -> bool:
    """Whether all were drained in time, and before `impatient` was set."""
    drained = False
    async with anyio.create_task_group() as group:

        async def lose_patience() -> None:
            await impatient.wait()
            group.cancel_scope.cancel()

        group.start_soon(lose_patience)
        with anyio.move_on_after(seconds):
            for service in services:
                await service.drained()
            drained = True
        group.cancel_scope.cancel()
    return drained
