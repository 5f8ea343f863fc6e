"""Events of a worker, for observers: counters, metrics, a custom log.

A listener overrides the methods that it needs. They are called in batches, after the event, in the worker's loop: they
must not wait and must not raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.execution.outcome import Outcome

__all__ = ["Listener", "Listeners"]


class Listener:
    """Ignores all events."""

    def ended(self, outcomes: Sequence[Outcome], accepted: Sequence[bool]) -> None:
        """Outcomes were stored, or fenced (accepted is False): a later attempt owns the task."""


class Listeners(Listener):
    """Passes events to several listeners."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def ended(self, outcomes: Sequence[Outcome], accepted: Sequence[bool]) -> None:
        for listener in self._listeners:
            listener.ended(outcomes, accepted)
