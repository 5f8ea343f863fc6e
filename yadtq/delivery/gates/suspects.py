"""Tasks that were running when a worker died wait here until there is a place for them in quarantine (D22)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.delivery.delivery import On

if TYPE_CHECKING:
    from collections.abc import Hashable

    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.quarantine.quarantine import Suspects
    from yadtq.task import Task

__all__ = ["PLACE", "SuspectGate"]

#: The event: a place is free again.
PLACE = ("quarantine",)


class SuspectGate:
    """`Gate`. Only Redis knows who is a suspect: a claim says so, and from then on the delivery asks here."""

    def __init__(self, suspects: Suspects) -> None:
        self._suspects = suspects
        #: Admitted, and not claimed yet.
        self._let_go = 0

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return False

    def suspected(self, delivery: Delivery, crashes: int) -> None:
        """A claim has returned it as a suspect, refused or granted."""
        delivery.crashes = crashes
        if self not in delivery.gates:
            delivery.gates = (*delivery.gates, self)

    def ask(self, delivery: Delivery, now: float) -> On | None:
        if not self._suspects.admit(delivery.envelope.id, delivery.crashes):
            return On(PLACE)
        self._let_go += 1
        return None

    def allowance(self) -> int:
        """How many suspects the claim that is being made may grant. Read once for each."""
        let_go, self._let_go = self._let_go, 0
        return let_go + self._suspects.places()

    def came_back(self, delivery: Delivery) -> Hashable | None:
        self._suspects.dismiss(delivery.envelope.id)
        return PLACE
