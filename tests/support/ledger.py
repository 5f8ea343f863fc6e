"""What really happened, written by tasks and clients themselves, for judges that must not ask the system under test.

One JSON line per event, each a single write to a file opened with O_APPEND: lines of many processes never mix, and a
killed process leaves all that it wrote. Times are CLOCK_MONOTONIC, which all processes of one machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

# How worker processes, which inherit the environment, find the file.
LEDGER_VARIABLE = "YADTQ_TEST_LEDGER"

Phase = Literal["start", "effect", "end", "raised"]
Outcome = Literal["sent", "acknowledged", "uncertain", "refused"]


@dataclass(frozen=True)
class Entry:
    """One phase of one execution. "effect" is optional: the moment of the side effect inside a longer task."""

    task_id: str
    attempt: int
    nonce: str
    phase: Phase
    worker: str
    at: float


@dataclass(frozen=True)
class Execution:
    """One run of a task function: the entries with the same task, attempt, nonce and worker."""

    task_id: str
    attempt: int
    nonce: str
    worker: str
    started_at: float
    ended_at: float | None = None
    raised: bool = False


@dataclass(frozen=True)
class Submit:
    """One step of a submit as the client saw it; "sent" comes before the call, the others after it."""

    task_id: str
    outcome: Outcome
    at: float


class Ledger:
    """The writing end, for use inside tasks; as cheap as one write, as it must not change what it watches."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def from_environment(cls) -> Self:
        return cls(os.environ[LEDGER_VARIABLE])

    def record(self, task_id: str, attempt: int, nonce: str, phase: Phase, *, worker: str = "") -> None:
        worker = worker or str(os.getpid())
        _append(self.path, asdict(Entry(task_id, attempt, nonce, phase, worker, time.monotonic())))

    @contextmanager
    def execution(self, task_id: str, attempt: int, nonce: str, *, worker: str = "") -> Iterator[None]:
        """Around a task's body. A killed process leaves a start without an end, which is the point."""
        self.record(task_id, attempt, nonce, "start", worker=worker)
        try:
            yield
        except BaseException:
            self.record(task_id, attempt, nonce, "raised", worker=worker)
            raise
        self.record(task_id, attempt, nonce, "end", worker=worker)


class LedgerReader:
    """Loads afresh on each call, so that it can be polled while tasks are writing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def entries(self) -> list[Entry]:
        return [Entry(**line) for line in _lines(self.path)]

    def executions(self) -> list[Execution]:
        """In the order of their starts."""
        return executions(self.entries())

    def by_task(self) -> dict[str, list[Execution]]:
        grouped: dict[str, list[Execution]] = defaultdict(list)
        for execution in self.executions():
            grouped[execution.task_id].append(execution)
        return dict(grouped)


class SubmitLog:
    """The client's side: which submits were acknowledged, and which may or may not have happened."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def record(self, task_id: str, outcome: Outcome) -> None:
        _append(self.path, asdict(Submit(task_id, outcome, time.monotonic())))

    def submits(self) -> list[Submit]:
        return [Submit(**line) for line in _lines(self.path)]

    def acknowledged(self) -> dict[str, float]:
        """When each task was first acknowledged: the moment from which it must not be lost."""
        first: dict[str, float] = {}
        for submit in self.submits():
            if submit.outcome == "acknowledged":
                first.setdefault(submit.task_id, submit.at)
        return first


def executions(entries: list[Entry]) -> list[Execution]:
    """Fold phases into runs. The same attempt started twice (a bug the judges look for) makes two executions."""
    done: list[Execution] = []
    open_at: dict[tuple[str, int, str, str], int] = {}
    for entry in sorted(entries, key=lambda entry: entry.at):
        key = (entry.task_id, entry.attempt, entry.nonce, entry.worker)
        if entry.phase == "start":
            open_at[key] = len(done)
            done.append(Execution(*key, started_at=entry.at))
        elif entry.phase in ("end", "raised") and key in open_at:
            place = open_at.pop(key)
            done[place] = Execution(
                *key, started_at=done[place].started_at, ended_at=entry.at, raised=entry.phase == "raised"
            )
    return done


def _append(path: Path, line: dict[str, Any]) -> None:
    # Opened for each line: tasks run in processes, threads and forks, and none of them must hold it open for others.
    descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    # What follows the last newline is a write that is going on at this moment.
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)
