"""All seats of a supervisor, and what it does with one: add, renew, retire, kill, release."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from yadtq.supervisor.events import tell
from yadtq.supervisor.seat import Seat
from yadtq.supervisor.seat_life import SeatState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from yadtq.runtime.clock import Clock
    from yadtq.supervisor.respawn import CrashHistory
    from yadtq.supervisor.seams import Slots

__all__ = ["Seats", "tell_of"]


def tell_of(seat: Seat, event: str, **facts: object) -> None:
    """An event of the process that lives in this seat."""
    if seat.occupant is not None:
        process = seat.occupant.process
        level = logging.WARNING if event in ("died", "killing") else logging.INFO
        tell(event, level=level, slot=seat.slot.id, worker=process.worker, pid=process.pid, **facts)


class Seats:
    """In the order in which they were added."""

    def __init__(
        self,
        slots: Slots,
        clock: Clock,
        *,
        grace_s: float,
        history: Callable[[], CrashHistory],
        leave: Callable[[Seat], None],
    ) -> None:
        """grace_s: seconds until a process that was asked to stop is killed. leave: takes a seat's member out of the
        consumer group.
        """
        self._slots, self._clock = slots, clock
        self._grace_s, self._history, self._leave = grace_s, history, leave
        self._all: list[Seat] = []

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def wanted(self) -> list[Seat]:
        return [seat for seat in self._all if seat.wanted]

    def add(self, avoid: Collection[str] = ()) -> Seat:
        """avoid: ids of slots. Raises `ConfigError` if no other slot can be had."""
        slot = self._slots.take(avoid)
        seat = Seat(slot, self._history(), due=self._clock.monotonic(), on_leaving=self._leave)
        self._all.append(seat)
        return seat

    def remove_one(self) -> None:
        """One that does no work is preferred."""
        if wanted := self.wanted:
            seat = next((seat for seat in reversed(wanted) if seat.given_up), wanted[-1])
            tell("removing", slot=seat.slot.id)
            self.retire(seat)

    def renew(self, seat: Seat) -> None:
        now = self._clock.monotonic()
        if seat.renew(now, now + self._grace_s) and seat.occupant is not None:
            seat.occupant.process.signal(signal.SIGTERM)

    def retire(self, seat: Seat) -> None:
        # Not if it was asked before: a second SIGTERM tells a worker to cancel its tasks.
        if seat.retire(self._clock.monotonic() + self._grace_s) and seat.occupant is not None:
            seat.occupant.process.signal(signal.SIGTERM)

    def kill(self, seat: Seat, cause: str) -> None:
        """Not twice."""
        if seat.occupant is not None and seat.occupant.kill_cause is None:
            seat.killed(cause)
            tell_of(seat, "killing", cause=cause)
            seat.occupant.process.kill()

    def kill_overdue(self) -> None:
        """Those that were asked to end and have not done so in time."""
        now = self._clock.monotonic()
        for seat in self._all:
            if seat.must_be_killed(now):
                self.kill(seat, f"killed after {self._grace_s:g} s of grace")

    def release_gone(self) -> None:
        for seat in self:
            if seat.state is SeatState.GONE:
                self._all.remove(seat)
                self._slots.release(seat.slot)
