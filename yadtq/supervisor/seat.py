"""A slot with what the supervisor knows of it: its process, if one lives, and what is to happen next. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yadtq.supervisor.process import WorkerProcess
    from yadtq.supervisor.respawn import CrashHistory
    from yadtq.supervisor.slots import Slot

__all__ = ["Seat"]

#: A start costs the processor for about this long, should the worker never say a word.
_START_COSTS_S = 5.0


@dataclass(slots=True, eq=False)
class Seat:
    """Empty (`due` says when that ends), taken, or given up (`ended` says why)."""

    slot: Slot
    history: CrashHistory
    due: float | None = None
    process: WorkerProcess | None = None
    #: False: to be removed as soon as it is empty.
    wanted: bool = True
    #: The worker has been asked to end, and is killed at this time.
    kill_at: float | None = None
    #: Why we killed it; None if we did not.
    killed: str | None = None
    ended: str | None = None
    misconfigured: bool = False
    #: A request to leave the group has been made, and is under way: nobody may join under this name.
    left: bool = False
    leaving: bool = False

    spawned_at: float = 0.0
    died_at: float | None = None
    ready: bool = False
    heard: bool = False
    last_seq: int = field(default=-1)
    last_words: str | None = None

    @property
    def worker(self) -> str | None:
        """The id of the living worker."""
        return self.process.worker if self.process else None

    @property
    def asked(self) -> bool:
        """Whether the end of this process was our wish."""
        return self.kill_at is not None

    @property
    def gone(self) -> bool:
        return not self.wanted and self.process is None and not self.leaving

    def can_start(self, now: float) -> bool:
        return (
            self.wanted
            and self.process is None
            and not self.leaving
            and self.ended is None
            and self.due is not None
            and self.due <= now
        )

    def is_starting(self, now: float) -> bool:
        """Whether it is in the part of its start that keeps the processor busy."""
        return self.process is not None and not self.heard and now - self.spawned_at < _START_COSTS_S

    def take(self, process: WorkerProcess, now: float) -> None:
        self.process, self.spawned_at, self.due = process, now, None
        self.left = False
        self.kill_at = self.killed = self.last_words = None
        self.ready = self.heard = False
        self.last_seq = -1

    def empty(self, now: float) -> None:
        self.process, self.died_at = None, now

    def revive(self, now: float) -> None:
        """Begin anew, with a clean record."""
        self.history.clear()
        self.ended, self.misconfigured, self.due = None, False, now
