"""Sends records on to a worker that can run them: a copy to one of its partitions, then the offset is released."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yadtq.delivery.gates.unknown import WINDOW
from yadtq.runtime.seams import OutRecord

if TYPE_CHECKING:
    from yadtq.delivery.delivery import Delivery, Elsewhere
    from yadtq.delivery.gates.unknown import UnknownTasks
    from yadtq.delivery.outbox import Outbox
    from yadtq.runtime.clock import Clock

__all__ = ["Handover", "copy_of"]

log = logging.getLogger("yadtq.worker")


def copy_of(delivery: Delivery, unknown: UnknownTasks, now: float, *, partition: int | None = None) -> OutRecord:
    """The same record for the tail of its partition, or of another; what is left of its window goes with it."""
    record = delivery.record
    headers = [(name, value) for name, value in record.headers if name != WINDOW]
    if delivery in unknown:
        headers.append((WINDOW, b"%.3f" % max(0.0, unknown.left_s(delivery, now))))
    return OutRecord(
        record.topic, record.value, record.key, record.partition if partition is None else partition, headers
    )


class Handover:
    """`waiting.OnElsewhere`: gets what a gate sends to another worker."""

    def __init__(self, *, outbox: Outbox, clock: Clock, unknown: UnknownTasks) -> None:
        self._outbox = outbox
        self._clock = clock
        self._unknown = unknown

    def __call__(self, delivery: Delivery, to: Elsewhere) -> None:
        copy = copy_of(delivery, self._unknown, self._clock.monotonic(), partition=to.partition)

        def moved() -> None:
            log.info("%r was sent on to worker %s, which knows its task", delivery, to.worker)
            self._unknown.forget([delivery])
            delivery.release()

        self._outbox.put([copy], moved)
