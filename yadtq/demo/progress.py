"""The present state of a run: results, workers, events. No I/O; the display reads it, the run writes it."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yadtq.demo.tasks import Report
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["Kill", "Progress", "label"]


def label(worker: str) -> str:
    """Of a worker id: `host.app.slot-2:1f3a5b7c` is slot-2:1f3a5b7c."""
    return worker.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Kill:
    """The `kill -9`. at: seconds since the epoch."""

    worker: str
    slot: str
    pid: int
    at: float
    done: int


@dataclass
class Progress:
    """One run."""

    total: int
    reports: list[Report] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    per_worker: Counter[str] = field(default_factory=Counter)
    crew: list[Heartbeat] = field(default_factory=list)
    #: Process ids of the workers, from the supervisor that started them: nobody else's process is ever killed.
    pids: dict[str, int] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    #: The partitions of each worker by its last heartbeat, and how often those of the others changed since the kill.
    shares: dict[str, set[str]] = field(default_factory=dict)
    changed: int = 0
    kill: Kill | None = None
    successor: str | None = None
    #: Seconds from the kill to its first heartbeat.
    respawned_s: float | None = None
    began: float = field(default_factory=time.monotonic)
    started: float | None = None
    ended: float | None = None

    @property
    def done(self) -> int:
        return len(self.reports) + len(self.failures)

    @property
    def elapsed_s(self) -> float:
        """Since the first submit."""
        return (self.ended or time.monotonic()) - self.started if self.started is not None else 0.0

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.done / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def interrupted(self) -> list[Report]:
        """Of tasks that had to be run again."""
        return [report for report in self.reports if report.attempt > 1]

    @property
    def recovery_s(self) -> tuple[float, float] | None:
        """From the kill until the first, and the last, of the tasks that it interrupted was running again.

        The last may have had to wait for a free slot, behind the first.
        """
        if self.kill is None or not self.interrupted:
            return None
        starts = [report.started_at - self.kill.at for report in self.interrupted]
        return min(starts), max(starts)

    def balanced(self, workers: int, partitions: int) -> bool:
        """Whether all workers run, each with a share, and each partition is in exactly one."""
        shares = [set(beat.partitions) for beat in self.crew if beat.phase == "running"]
        counts = [len(share) for share in shares]
        return len(shares) == workers and all(counts) and sum(counts) == len(set().union(*shares)) == partitions

    def see(self, crew: list[Heartbeat]) -> None:
        """The latest heartbeats."""
        self.crew = crew
        for beat in crew:
            share, before = set(beat.partitions), self.shares.get(beat.worker)
            if self.kill is not None and beat.slot != self.kill.slot and before is not None and before != share:
                self.changed += 1
            self.shares[beat.worker] = share

    def tell(self, text: str) -> None:
        self.events.append(f"{time.monotonic() - self.began:5.1f} s  {text}")

    def take(self, report: Report) -> None:
        self.reports.append(report)
        self.per_worker[report.worker] += 1

    def fail(self, what: str) -> None:
        self.failures.append(what)
        self.tell(what)

    def line(self, line: str) -> None:
        """A line of the supervisor's log, which its workers also write to: not trusted, so only displayed."""
        self.log.append(line)

    def event(self, facts: Mapping[str, Any]) -> None:
        """An event of the supervisor that we have started ourselves."""
        worker = str(facts.get("worker", ""))
        match facts.get("event"):
            case "spawned":
                self.pids[worker] = int(facts["pid"])
            case "died":
                self.pids.pop(worker, None)
                self.tell(f"supervisor: {label(worker)} died of {facts['cause']}")
            case "respawning":
                self.tell(f"supervisor: starting a successor in {label(facts['slot'])}")
            case "ready" if self.kill is not None and facts["slot"] == self.kill.slot:
                self.successor, self.respawned_s = worker, time.time() - self.kill.at
                self.tell(f"supervisor: {label(worker)} is ready, {self.respawned_s:.2f} s after the kill")

    def victim(self) -> tuple[str, int] | None:
        """The worker that is busiest by its last heartbeat, and its process id."""
        for beat in sorted(self.crew, key=lambda beat: len(beat.running), reverse=True):
            if (pid := self.pids.get(beat.worker)) is not None:
                return beat.worker, pid
        return None
