"""A rolling restart: each worker is replaced only when the one before has a successor that runs. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from yadtq.supervisor.seat_life import SeatState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from yadtq.supervisor.seat import Seat

__all__ = ["Rollout"]


class Rollout:
    """Call `step` after every event. A seat that fails ends it: old workers are better than none."""

    def __init__(self, renew: Callable[[Seat], None], on_abort: Callable[[Seat], None]) -> None:
        """renew: must lead to another process in the seat, or to its being given up."""
        self._renew, self._on_abort = renew, on_abort
        self._waiting: deque[Seat] = deque()
        self._current: Seat | None = None
        self._old_worker: str | None = None

    def begin(self, seats: Iterable[Seat]) -> None:
        """A second restart goes through all seats once more; the current one is finished first."""
        self._waiting = deque(seats)

    def cancel(self) -> None:
        self._waiting.clear()
        self._current = None

    def step(self) -> None:
        if self._current is not None:
            if self._current.given_up is not None:
                self._on_abort(self._current)
                self.cancel()
            elif not self._is_done(self._current):
                return
            self._current = None
        while self._waiting and self._current is None:
            seat = self._waiting.popleft()
            if seat.wanted:
                self._current, self._old_worker = seat, seat.worker
                self._renew(seat)

    def _is_done(self, seat: Seat) -> bool:
        return not seat.wanted or (seat.state is SeatState.RUNNING and seat.worker != self._old_worker)
