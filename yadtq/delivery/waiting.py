"""The waiting room: everything that has been received and is not being claimed. No I/O.

A delivery waits for its turn (`turns/`), for a time (parked), or for an event (a gate says which, `gates/`). None of
them has a slot. Parked deliveries come back before fresh ones, because they are older. Parked deliveries are also
checked when a death certificate or a loss of Redis's data may have changed what they wait for.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

from yadtq.delivery.delivery import Elsewhere, On
from yadtq.delivery.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from yadtq.delivery.delivery import Delivery, Gate
    from yadtq.delivery.turns.turns import Turns
    from yadtq.runtime.clock import Clock
    from yadtq.task import Task

__all__ = ["WaitingRoom"]

# As globals: an access to a member of an enum costs 70 ns in Python 3.11, and these are made for every task.
_WAITING, _PARKED, _GATED, _CLAIMING = Place.WAITING, Place.PARKED, Place.GATED, Place.CLAIMING


class WaitingRoom:
    """gates: asked in this order, each only for deliveries that it concerns. on_elsewhere: gets what one of them sends to
    another worker.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        turns: Turns,
        gates: Sequence[Gate] = (),
        on_elsewhere: Callable[[Delivery, Elsewhere], None] | None = None,
    ) -> None:
        self._on_elsewhere = on_elsewhere
        self._clock = clock
        self._turns = turns
        self._gates = gates
        #: Which gates concern a task: asked once for each, not for each delivery.
        self._by_task: dict[Task[Any, Any] | None, tuple[Gate, ...]] = {}
        self._parked: list[tuple[float, int, Delivery]] = []
        self._serial = count()
        #: By event, heaps in the order of arrival: a delivery that was admitted, but came too late for what it waits
        #: for, must not wait behind all others again.
        self._gated: dict[Hashable, list[tuple[float, int, int, Delivery]]] = {}

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Fresh ones of one source, behind those that already wait."""
        for delivery in deliveries:
            gates = self._by_task.get(delivery.task)
            if gates is None:
                gates = self._by_task[delivery.task] = tuple(
                    gate for gate in self._gates if gate.concerns(delivery.task)
                )
            delivery.gates = gates
            delivery.place = _WAITING
        self._turns.add(deliveries)

    def put_first(self, deliveries: Sequence[Delivery]) -> None:
        """Before those that already wait, in their order."""
        for delivery in reversed(deliveries):
            delivery.place = _WAITING
            self._turns.put_first(delivery)

    def park(self, delivery: Delivery, seconds: float) -> None:
        """Until a time."""
        delivery.place = _PARKED
        delivery.source.aside += 1
        heapq.heappush(self._parked, (self._clock.monotonic() + seconds, next(self._serial), delivery))

    def hold(self, delivery: Delivery, key: Hashable) -> None:
        """Until the event `key`."""
        delivery.place = _GATED
        delivery.source.aside += 1
        held = self._gated.setdefault(key, [])
        heapq.heappush(held, (delivery.received_at, delivery.record.offset, next(self._serial), delivery))

    def opened(self, key: Hashable, most: int | None = None) -> None:
        """The event has happened: those that have waited longest for it are asked again. most: how many; None: all."""
        if not self._gated:
            return
        held = self._gated.get(key)
        if held is None:
            return
        woken: list[Delivery] = []
        while held and len(woken) != most:
            delivery = heapq.heappop(held)[-1]
            # Those of a lost partition are dropped here: they would use up the event, and no other would be woken.
            delivery.source.aside -= 1
            if delivery.source.lost:
                delivery.place = Place.DROPPED
            else:
                woken.append(delivery)
        if not held:
            del self._gated[key]
        self.put_first(woken)

    def rebalanced(self) -> None:
        """Drop what belongs to another worker now, and ask all that wait for an event again.

        A delivery of a lost partition may have used up an event: it was admitted just before, and is dropped when its
        turn comes.
        """
        kept = []
        for entry in self._parked:
            if entry[2].source.lost:
                entry[2].place = Place.DROPPED
                entry[2].source.aside -= 1
            else:
                kept.append(entry)
        heapq.heapify(kept)
        self._parked = kept
        for key in list(self._gated):
            self.opened(key)

    def came_back(self, delivery: Delivery) -> None:
        """It was admitted and was not granted, or its attempt has ended: its gates may admit another one."""
        for gate in delivery.gates:
            if (key := gate.came_back(delivery)) is not None:
                self.opened(key, 1)

    def wake_all(self) -> None:
        """Everything parked is due now."""
        parked, self._parked = self._parked, []
        woken = [delivery for _, _, delivery in sorted(parked)]
        for delivery in woken:
            delivery.source.aside -= 1
        self.put_first(woken)

    def take(self, most: int) -> list[Delivery]:
        """Up to `most` deliveries to claim: those whose turn it is, and which no gate holds back."""
        if self._parked:
            self._wake_due()
        taken: list[Delivery] = []
        while (left := most - len(taken)) and (batch := self._turns.take(left)):
            for delivery in batch:
                if not delivery.gates or self._may_go(delivery):
                    delivery.place = _CLAIMING
                    taken.append(delivery)
        return taken

    def _may_go(self, delivery: Delivery) -> bool:
        now = self._clock.monotonic()
        for at, gate in enumerate(delivery.gates):
            answer = gate.ask(delivery, now)
            if answer is None:
                continue
            for earlier in delivery.gates[:at]:
                earlier.came_back(delivery)  # no other could have been admitted meanwhile, so there is no event
            if isinstance(answer, On):
                self.hold(delivery, answer.key)
            elif isinstance(answer, Elsewhere):
                assert self._on_elsewhere is not None
                delivery.place = Place.OUTBOX
                self._on_elsewhere(delivery, answer)
            else:
                self.park(delivery, answer.seconds)
            return False
        return True

    def _wake_due(self) -> None:
        now = self._clock.monotonic()
        due = []
        while self._parked and self._parked[0][0] <= now:
            delivery = heapq.heappop(self._parked)[2]
            delivery.source.aside -= 1
            due.append(delivery)
        if due:
            self.put_first(due)

    def next_due(self) -> float | None:
        """Monotonic time at which something parked is due."""
        return self._parked[0][0] if self._parked else None

    @property
    def parked(self) -> int:
        """How many wait for a time or an event."""
        return len(self._parked) + sum(map(len, self._gated.values()))

    def contents(self) -> dict[Place, list[Delivery]]:
        """All deliveries in the room, by place: for the audit."""
        return {
            _WAITING: self._turns.waiting(),
            _PARKED: [delivery for _, _, delivery in self._parked],
            _GATED: [entry[-1] for held in self._gated.values() for entry in held],
        }
