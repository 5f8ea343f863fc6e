"""What happens in a worker, for those who look on: counters, metrics, a log of one's own.

A listener overrides what it wants. It is told in batches, after the fact, in the worker's loop: it must not wait and
must not raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.execution.outcome import Outcome

__all__ = ["Listener", "Listeners"]


class Listener:
    """Hears nothing."""

    def ended(self, outcomes: Sequence[Outcome], accepted: Sequence[bool]) -> None:
        """Outcomes were stored, or fenced (accepted is False): a later attempt owns the task."""


class Listeners(Listener):
    """Tells several."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def ended(self, outcomes: Sequence[Outcome], accepted: Sequence[bool]) -> None:
        for listener in self._listeners:
            listener.ended(outcomes, accepted)
