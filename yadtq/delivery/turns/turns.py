"""The seam that decides whose turn it is among all deliveries that may be claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.delivery.delivery import Delivery

__all__ = ["Turns"]


class Turns(Protocol):
    """A queue of queues. No I/O. Deliveries of a lost source are dropped on their way out."""

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Behind those that already wait. All of one source: they arrive in one batch."""
        ...

    def put_first(self, delivery: Delivery) -> None:
        """Before those that already wait."""
        ...

    def take(self, most: int) -> list[Delivery]:
        """Up to `most` whose turn it is; fewer only if there are no more."""
        ...

    def waiting(self) -> list[Delivery]:
        """All of them, in no particular order."""
        ...
