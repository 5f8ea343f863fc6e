"""What follows the end of a task: records that must be in Kafka before the task's own record may be released.

The same end gives the same records, with ids derived from the task's, so a repeat changes nothing. Repeats do happen: a
worker may die between the end and the append, and then the next worker that finds the task ended appends them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from yadtq.delivery.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.outbox import Outbox
    from yadtq.runtime.seams import OutRecord
    from yadtq.wire.envelope import Envelope

__all__ = ["Endings", "Sequel"]


class Sequel(Protocol):
    """One kind of thing that may follow. No I/O."""

    def records(self, envelope: Envelope) -> Sequence[OutRecord]:
        """What follows this task, () if nothing does. Depends on nothing but the record."""
        ...


class Endings:
    """The only place where the record of an ended task is released."""

    def __init__(self, *, outbox: Outbox, sequels: Sequence[Sequel] = ()) -> None:
        self._outbox = outbox
        self._sequels = sequels

    def ended(self, delivery: Delivery) -> None:
        """Its task is in a final state: now, by this worker, or long ago."""
        if self._sequels and (
            records := [each for sequel in self._sequels for each in sequel.records(delivery.envelope)]
        ):
            delivery.place = Place.OUTBOX
            self._outbox.put(records, delivery.release)
        else:
            delivery.release()
