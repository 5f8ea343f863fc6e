"""One record on its way through a worker, from the poll to the watermark, with its source and the gates that delay it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from yadtq.delivery.place import Place
from yadtq.shown import shown
from yadtq.wire.envelope import Envelope, decode_envelope
from yadtq.wire.ids import home_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from yadtq.runtime.seams import ConsumedRecord
    from yadtq.task import Task

__all__ = ["UNDECODABLE", "Delivery", "Elsewhere", "Gate", "On", "Source", "Until"]

#: Envelope of a record that is not a task, and has no id that could be read. It is never claimed.
UNDECODABLE = Envelope("undecodable", "undecodable")
# As globals: an access to a member of an enum costs 70 ns in Python 3.11, and these are made for every task.
_RECEIVED, _RELEASED = Place.RECEIVED, Place.RELEASED


class Source(Protocol):
    """Where a record came from, and what is notified when nothing needs it any more: the tracker of its partition."""

    lost: bool
    """It belongs to another worker now: deliveries that still wait are dropped."""

    aside: int
    """How many of its deliveries wait for a time or an event."""

    def release(self, delivery: Delivery) -> None:
        """Nothing needs the record any more. May be called twice."""
        ...


class Until(NamedTuple):
    """Wait this many seconds; then the gate is asked again."""

    seconds: float


class On(NamedTuple):
    """Wait for the event `key`; then the gate is asked again."""

    key: Hashable


class Elsewhere(NamedTuple):
    """Another worker is to run it: a copy goes to this partition of its topic, which that worker has. None: it has none."""

    partition: int | None
    worker: str


class Gate(Protocol):
    """One reason to wait, in `gates/`: a suspect, an unknown name, a thread that is not free. No I/O.

    Asked when it is the delivery's turn; notified when a delivery that it admitted has come back. To add one: a file in
    `gates/`, and a line in `worker/assembly.py`.
    """

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        """Asked once for each task; None stands for those whose name is unknown. A task that no gate concerns has no
        cost.
        """
        ...

    def ask(self, delivery: Delivery, now: float) -> Until | On | Elsewhere | None:
        """None: it may be claimed, and counts as admitted until `came_back`. now: monotonic seconds."""
        ...

    def came_back(self, delivery: Delivery) -> Hashable | None:
        """It was not granted, or its attempt has ended. Returns the event for which a waiting delivery may be admitted."""
        ...


class Delivery:
    """Owned by one part of the worker at a time: `place` names it (place.py has the table).

    envelope: UNDECODABLE if the record is no task. task: None if its name is unknown here. home: of its id. defect:
    why the record can't be read; if its id can be, it is claimed, to end FAILED. nonce: of the claim on its way or
    granted, "" if there is none. parked_s: how long it last waited for another worker's lease. crashes: under
    its task, as the last claim said. gates: those that concern it.
    """

    __slots__ = (
        "_given",
        "crashes",
        "defect",
        "envelope",
        "gates",
        "home",
        "nonce",
        "parked_s",
        "place",
        "received_at",
        "record",
        "source",
        "task",
    )

    def __init__(
        self, record: ConsumedRecord, envelope: Envelope, task: Task[Any, Any] | None, *, source: Source, now: float
    ) -> None:
        self.record = record
        self.envelope = envelope
        self.task = task
        self.source = source
        self.home = home_of(record.topic, envelope.task)
        self.defect = ""
        self.received_at = now
        self.nonce = ""
        self.parked_s = 0.0
        self.crashes = 0
        self.gates: tuple[Gate, ...] = ()
        self.place = _RECEIVED
        self._given = False

    def __repr__(self) -> str:
        record, envelope = self.record, self.envelope
        what = f"{shown(envelope.id)} {shown(envelope.task)}" if envelope is not UNDECODABLE else "undecodable"
        return f"<Delivery {what} {record.topic}/{record.partition}@{record.offset}>"

    def envelope_for_attempt(self) -> Envelope:
        """Each attempt gets one of its own, since it may change what is in it. The first gets the one at hand."""
        if self._given and not self.defect:
            return decode_envelope(self.record.value)
        self._given = True
        return self.envelope

    def forget_arguments(self) -> None:
        """They take memory while the delivery waits: each attempt reads them from the record."""
        if self.envelope is not UNDECODABLE and not self.defect:
            self.envelope.args, self.envelope.kwargs = [], {}
            self._given = True

    def release(self) -> None:
        """The record needs no further delivery: its offset may be committed."""
        self.place = _RELEASED
        self.source.release(self)
