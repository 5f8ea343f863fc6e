"""Two supervisors of one app that use one slot: detected by heartbeats of a worker that is not ours. No I/O.

Slots are locked by files, so this happens with two lock folders: another user, a private /tmp, a container with the
host's name. Both workers then have one static member id and remove each other from the group. The supervisor that was
started later takes another slot. Both can decide which one that is, since their ids sort by start time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from yadtq.runtime.clock import Clock
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["Twin", "Twins", "new_supervisor_id"]

#: Heartbeats can be forged, and each that is believed costs the restart of a worker.
_MOST_YIELDS, _YIELDS_WINDOW_S = 50, 600.0
_MOST_KNOWN, _PRUNE_EVERY_S = 1_000, 1.0
_TELL_EVERY_S = 60.0
_DIGITS = 5


def new_supervisor_id(clock: Clock, chance: random.Random) -> str:
    """Sorts by the time of the start."""
    return f"{round(clock.time() * 1000):014d}-{chance.getrandbits(32):08x}"


@dataclass(slots=True)
class Twin:
    """A worker that is not ours. supervisor: "" if unknown. first, last: when a heartbeat of it was received, on our
    clock.
    """

    worker: str
    supervisor: str
    host: str
    pid: int
    seq: int
    first: float
    last: float
    told_at: float = float("-inf")


class Twins:
    """Call `heard` with each heartbeat that is not of a worker of ours."""

    def __init__(self, *, prefix: str, supervisor: str, clock: Clock, heartbeat_s: float) -> None:
        """prefix: of the slot ids of this app on this host. supervisor: our own id."""
        self._prefix, self.supervisor, self._clock = prefix, supervisor, clock
        # Two beats of one worker: a single one may be a late one of a process that is dead.
        self._sure_s, self._silence_s = heartbeat_s / 2, 4 * heartbeat_s + 1
        self._heard: dict[str, Twin] = {}
        self._pruned_at = float("-inf")
        self._yields: deque[float] = deque()

    def heard(self, beat: Heartbeat) -> None:
        """Only those of this host and app are kept, and a bounded number of them."""
        slot = beat.slot or ""
        number = slot.removeprefix(self._prefix)
        if slot == number or len(number) > _DIGITS or not (number.isascii() and number.isdigit()):
            return
        if beat.supervisor == self.supervisor:  # a late beat of a process of ours that is dead
            return
        # Twins have one host, and so one clock. Beats that Kafka was asked to take long ago, and has taken only now, are of
        # a process that may be dead: leaving the slot to it would interrupt tasks for nothing.
        if self._clock.time() - beat.at > self._silence_s:
            return
        now, known = self._clock.monotonic(), self._heard.get(slot)
        if beat.phase in ("stopped", "dead"):
            if known is not None and known.worker == beat.worker:
                del self._heard[slot]
        elif known is None or known.worker != beat.worker or now - known.last > self._silence_s:
            if known is None and not self._has_room(now):
                return
            self._heard[slot] = Twin(beat.worker, beat.supervisor or "", beat.host, beat.pid, beat.seq, now, now)
        elif beat.seq > known.seq:
            known.seq, known.last = beat.seq, now

    def _has_room(self, now: float) -> bool:
        if len(self._heard) >= _MOST_KNOWN and now - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = now
            self._heard = {slot: twin for slot, twin in self._heard.items() if now - twin.last <= self._silence_s}
        return len(self._heard) < _MOST_KNOWN

    def of(self, slot: str) -> Twin | None:
        """The worker that lives in this slot of ours, if we are sure."""
        twin = self._heard.get(slot)
        if twin is None or self._clock.monotonic() - twin.last > self._silence_s:
            return None
        return twin if twin.last - twin.first >= self._sure_s else None

    def taken(self) -> set[str]:
        """The slots in which workers of others were heard lately."""
        now = self._clock.monotonic()
        return {slot for slot, twin in self._heard.items() if now - twin.last <= self._silence_s}

    def may_yield_to(self, twin: Twin) -> bool:
        """Whether we have to leave the slot. True counts as done, and is returned only a limited number of times."""
        if twin.supervisor > self.supervisor:
            return False
        now = self._clock.monotonic()
        while self._yields and now - self._yields[0] > _YIELDS_WINDOW_S:
            self._yields.popleft()
        if len(self._yields) >= _MOST_YIELDS:
            return False
        self._yields.append(now)
        return True

    def is_news(self, twin: Twin) -> bool:
        """Whether it has not been reported for a while; True counts as reported."""
        now = self._clock.monotonic()
        if now - twin.told_at < _TELL_EVERY_S:
            return False
        twin.told_at = now
        return True
