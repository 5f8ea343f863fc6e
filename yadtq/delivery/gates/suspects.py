"""Tasks that have crashed workers run one at a time, so that the culprit is alone with its crash in the end (D7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.delivery.delivery import On

if TYPE_CHECKING:
    from collections.abc import Hashable

    from yadtq.delivery.delivery import Delivery
    from yadtq.task import Task

__all__ = ["SuspectGate"]

#: The event: no suspect runs here.
_ALONE = ("suspect",)


class SuspectGate:
    """`gate.Gate`. Only Redis knows who is a suspect: a claim says so, and the delivery then comes here (`suspected`)."""

    def __init__(self) -> None:
        #: The one suspect that was let go and has not come back.
        self.holder: Delivery | None = None
        self._allowance = 0

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return False

    def suspected(self, delivery: Delivery) -> None:
        """A claim has refused it as a suspect: from now on it asks here."""
        if self not in delivery.gates:
            delivery.gates = (*delivery.gates, self)

    def granted(self, delivery: Delivery) -> None:
        """A claim has granted one that nobody here knew to be a suspect: the allowance was for another, which is refused."""
        self.suspected(delivery)
        self.holder = delivery

    def ask(self, delivery: Delivery, now: float) -> On | None:
        if self.holder is not None:
            return On(_ALONE)
        self.holder = delivery
        self._allowance = 1
        return None

    def allowance(self) -> int:
        """How many suspects the claim that is being made may grant. Read once for each."""
        allowance, self._allowance = self._allowance, 0
        return allowance

    def came_back(self, delivery: Delivery) -> Hashable | None:
        if self.holder is not delivery:
            return None
        self.holder = None
        return _ALONE
