"""A slot with what the supervisor knows about it: one state, and the data that belongs to this state. No I/O.

Every change goes through `_move`, which asks the table of `seat_life.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from yadtq.supervisor.seat_life import ENDED, LEAVING_GROUP, LIVING, TABLE, WANTED, IllegalMove, SeatEvent, SeatState

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.supervisor.respawn import CrashHistory
    from yadtq.supervisor.seams import Beat, Process, Slot

__all__ = ["GivenUp", "Occupant", "Seat", "Vacancy"]

#: A start keeps the processor busy for about this long, if the worker never reports anything.
_START_COSTS_S = 5.0


@dataclass(frozen=True, slots=True)
class Vacancy:
    """Of a seat that is DUE. at: when to start a process, on the monotonic clock. died_at: of the one before."""

    at: float
    died_at: float | None = None


@dataclass(slots=True, eq=False)
class Occupant:
    """Of a seat in which a process lives. A new one for each process, so that nothing is left from the one before."""

    process: Process
    spawned_at: float
    predecessor_died_at: float | None = None
    #: A line has arrived through its pipe.
    heard: bool = False
    #: It has reported once that it runs.
    ran: bool = False
    last_seq: int = -1
    #: Why it is going to end, as reported by itself.
    last_words: str | None = None
    #: It was asked to end, and is killed at this time.
    kill_at: float | None = None
    #: Why we killed it.
    kill_cause: str | None = None

    def hear(self, beat: Beat) -> None:
        self.heard, self.last_seq = True, beat.seq
        self.last_words = beat.error or self.last_words


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Of a seat that is GIVING_UP or GIVEN_UP."""

    cause: str
    misconfigured: bool = False


class Seat:
    """Exactly one of `vacancy`, `occupant` and `given_up` is there, or none while it leaves or is revived."""

    __slots__ = ("_now", "_on_leaving", "_state", "history", "slot")

    def __init__(
        self, slot: Slot, history: CrashHistory, *, due: float, on_leaving: Callable[[Seat], None] = lambda _: None
    ) -> None:
        """on_leaving: called when the slot has to leave the consumer group; `left` is the answer to it."""
        self.slot = slot
        self.history = history
        self._on_leaving = on_leaving
        self._state = SeatState.DUE
        self._now: Vacancy | Occupant | GivenUp | None = Vacancy(due)

    def __repr__(self) -> str:
        return f"<Seat {self.slot.id} {self._state.value}>"

    # What it is

    @property
    def state(self) -> SeatState:
        return self._state

    @property
    def vacancy(self) -> Vacancy | None:
        return self._now if isinstance(self._now, Vacancy) else None

    @property
    def occupant(self) -> Occupant | None:
        return self._now if isinstance(self._now, Occupant) else None

    @property
    def given_up(self) -> GivenUp | None:
        return self._now if isinstance(self._now, GivenUp) else None

    @property
    def worker(self) -> str | None:
        """The id of the living worker."""
        return self._now.process.worker if isinstance(self._now, Occupant) else None

    @property
    def wanted(self) -> bool:
        return self._state in WANTED

    def can_start(self, now: float) -> bool:
        return isinstance(self._now, Vacancy) and self._now.at <= now

    def is_starting(self, now: float) -> bool:
        """Whether it is in the part of its start that keeps the processor busy."""
        occupant = self.occupant
        return occupant is not None and not occupant.heard and now - occupant.spawned_at < _START_COSTS_S

    def must_be_killed(self, now: float) -> bool:
        """Whether it was asked to end, and its grace is over."""
        occupant = self.occupant
        asked = self._state in (SeatState.RENEWING, SeatState.RETIRING)
        return asked and occupant is not None and occupant.kill_at is not None and now >= occupant.kill_at

    # Events

    def spawned(self, process: Process, now: float) -> Occupant:
        died_at = self._now.died_at if isinstance(self._now, Vacancy) else None
        occupant = Occupant(process, now, died_at)
        self._move(SeatEvent.SPAWNED, occupant)
        return occupant

    def ready(self) -> None:
        self._move(SeatEvent.READY, self._now)

    def renew(self, now: float, kill_at: float) -> bool:
        """Replace its process. Returns whether the living one has to be asked to stop first."""
        if self._state is SeatState.GIVEN_UP or self._state is SeatState.DUE:
            self.history.clear()
            self._move(SeatEvent.RENEW, Vacancy(now))
            return False
        before = self._state
        if before is SeatState.GIVING_UP:
            self.history.clear()
        self._move(SeatEvent.RENEW, self.occupant)
        return self._asked(before, SeatState.RENEWING, kill_at)

    def retire(self, kill_at: float) -> bool:
        """Leave it empty. Returns whether the living process has to be asked to stop first."""
        before = self._state
        self._move(SeatEvent.RETIRE, self.occupant)
        return before is not SeatState.RENEWING and self._asked(before, SeatState.RETIRING, kill_at)

    def killed(self, cause: str) -> None:
        self._move(SeatEvent.KILL, self._now)
        if isinstance(self._now, Occupant):
            self._now.kill_cause = cause

    def respawn(self, at: float, *, died_at: float | None = None) -> None:
        """The process has ended, or could not be started: another one at this time."""
        self._move(SeatEvent.RESPAWN, Vacancy(at, died_at))

    def give_up(self, cause: str, *, misconfigured: bool = False) -> None:
        """The same, and no other one follows."""
        self._move(SeatEvent.GIVE_UP, GivenUp(cause, misconfigured))

    def emptied(self) -> None:
        self._move(SeatEvent.EMPTIED, None)

    def left(self, now: float) -> None:
        """Its member is out of the consumer group."""
        self._move(SeatEvent.LEFT, Vacancy(now) if self._state is SeatState.REVIVING else self.given_up)

    def _asked(self, before: SeatState, after: SeatState, kill_at: float) -> bool:
        if self._state is not after or before is after or not isinstance(self._now, Occupant):
            return False
        self._now.kill_at = kill_at
        return True

    def _move(self, event: SeatEvent, now: Vacancy | Occupant | GivenUp | None) -> None:
        after = TABLE.get((self._state, event))
        if after is None:
            raise IllegalMove(f"slot {self.slot.id}: {event.value} while {self._state.value}")
        if _DATA.get(after, type(None)) is not type(now):
            raise IllegalMove(f"slot {self.slot.id}: {after.value} with {now!r}")
        before, self._state, self._now = self._state, after, now
        if after in LEAVING_GROUP and before not in LEAVING_GROUP:
            self._on_leaving(self)


_DATA: dict[SeatState, type[Vacancy | Occupant | GivenUp]] = {
    SeatState.DUE: Vacancy,
    **dict.fromkeys(LIVING, Occupant),
    **dict.fromkeys(ENDED, GivenUp),
}
