"""The judges of chaos tests: I1 to I7 as pure functions over what was written down, each returning violations in words.

    I1  every acknowledged submit reaches a final state within T
    I2  a final state never changes, and belongs to the highest attempt
    I3  results come from an attempt whose lease was valid at its finish
    I4  the committed offset is at most the lowest unfinished one
    I5  executions of a task are at most 1 + the faults injected (+ the retries it asked for)
    I6  no process, thread, connection or key is left behind
    I7  clean logs

Every judge takes time as it was written, never the clock; an empty list means that the invariant held.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from tests.support.ledger import Execution

FINAL_STATES = frozenset({"SUCCESS", "FAILED", "CANCELLED"})

DIRTY_LOG = re.compile(
    r"Task exception was never retrieved"
    r"|Future exception was never retrieved"
    r"|Task was destroyed but it is pending"
    r"|coroutine .* was never awaited"
    r"|Unclosed (?:AIOKafka|connection|client)"
    r"|Fatal Python error"
)


@dataclass(frozen=True)
class Observation:
    """A task's state as a client read it at some moment. `result` is the encoded result or error, `nonce` if known."""

    task_id: str
    state: str
    at: float
    attempt: int = 0
    result: str | None = None
    nonce: str | None = None

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True)
class Lease:
    """The time during which an attempt owned its task, as far as the test can know it (both ends monotonic)."""

    task_id: str
    attempt: int
    nonce: str
    since: float
    until: float


@dataclass(frozen=True)
class Record:
    """One record of a tasks topic, read by an independent client."""

    partition: int
    offset: int
    task_id: str


@dataclass(frozen=True)
class CommitSample:
    """A partition at some moment. Read the committed offset *before* the states: then a late finish never looks bad."""

    partition: int
    committed: int
    lowest_unfinished: int
    at: float = 0.0


@dataclass(frozen=True)
class Census:
    """What exists at some moment; each item named so that a violation can be understood."""

    processes: Sequence[str] = ()
    threads: Sequence[str] = ()
    connections: Sequence[str] = ()
    keys: Sequence[str] = ()


@dataclass
class History:
    """Everything written down about one chaos run; what was not watched stays empty and is not judged."""

    acknowledged: Mapping[str, float] = field(default_factory=dict)
    executions: Sequence[Execution] = ()
    observations: Sequence[Observation] = ()
    leases: Sequence[Lease] = ()
    commits: Sequence[CommitSample] = ()
    faults: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    before: Census = field(default_factory=Census)
    after: Census = field(default_factory=Census)
    log_lines: Iterable[str] = ()


def violations(history: History, *, within_s: float) -> list[str]:
    """All seven at once, for the end of a scenario."""
    return [
        *every_submit_ends(history.acknowledged, history.observations, within_s=within_s),
        *final_states_stand(history.observations, history.executions),
        *results_were_owned(history.observations, history.executions, history.leases),
        *commits_stay_behind(history.commits),
        *executions_are_bounded(history.executions, faults=history.faults, retries=history.retries),
        *nothing_leaked(history.before, history.after),
        *logs_are_clean(history.log_lines),
    ]


def every_submit_ends(
    acknowledged: Mapping[str, float], observations: Sequence[Observation], *, within_s: float
) -> list[str]:
    first_final = {task_id: seen[0] for task_id, seen in _finals(observations).items()}
    last = {seen.task_id: seen.state for seen in sorted(observations, key=_when)}
    found = []
    for task_id, at in acknowledged.items():
        if task_id not in first_final:
            found.append(f"I1: {task_id} was acknowledged and never ended (last seen: {last.get(task_id, 'nothing')})")
        elif (took := first_final[task_id].at - at) > within_s:
            found.append(f"I1: {task_id} ended after {took:.1f} s, more than {within_s} s")
    return found


def final_states_stand(observations: Sequence[Observation], executions: Sequence[Execution]) -> list[str]:
    highest: dict[str, int] = defaultdict(int)
    for run in executions:
        highest[run.task_id] = max(highest[run.task_id], run.attempt)
    finals = _finals(observations)
    found = []
    for task_id, first in ((task_id, seen[0]) for task_id, seen in finals.items()):
        # Every later look counts, also one that finds the task not final any more.
        later = [seen for seen in observations if seen.task_id == task_id and seen.at > first.at]
        found += [
            f"I2: {task_id} was {_words(first)} and became {_words(seen)}"
            for seen in sorted(later, key=_when)
            if _words(seen) != _words(first)
        ]
        if first.attempt < highest[task_id]:
            found.append(f"I2: {task_id} shows attempt {first.attempt}, but attempt {highest[task_id]} was started")
    return found


def results_were_owned(
    observations: Sequence[Observation], executions: Sequence[Execution], leases: Sequence[Lease] = ()
) -> list[str]:
    """Judged for successes: other final states may come without an execution (cancelled, expired, poison)."""
    found = []
    for task_id, seen in _finals(observations).items():
        final = seen[0]
        if final.state != "SUCCESS":
            continue
        runs = [run for run in executions if run.task_id == task_id]
        winners = [run for run in runs if run.attempt == final.attempt and final.nonce in (None, run.nonce)]
        ended = [run for run in winners if run.ended_at is not None and not run.raised]
        if not ended:
            found.append(f"I3: {task_id} succeeded in attempt {final.attempt} (nonce {final.nonce}), which never ended")
        found += [problem for run in ended for problem in _lost_ownership(run, runs, leases)]
    return found


def _lost_ownership(winner: Execution, runs: Sequence[Execution], leases: Sequence[Lease]) -> list[str]:
    assert winner.ended_at is not None, "only ended runs can win"
    name = f"{winner.task_id} attempt {winner.attempt}"
    # Whoever starts a later attempt has taken the lease: an earlier one that ends afterwards does not own it any more.
    found = [
        f"I3: {name} ended at {winner.ended_at:.3f}, after attempt {run.attempt} had taken over at {run.started_at:.3f}"
        for run in runs
        if run.attempt > winner.attempt and run.started_at < winner.ended_at
    ]
    own = [lease for lease in leases if (lease.task_id, lease.nonce) == (winner.task_id, winner.nonce)]
    if own and not any(lease.since <= winner.ended_at <= lease.until for lease in own):
        until = max(lease.until for lease in own)
        found.append(f"I3: {name} ended at {winner.ended_at:.3f}, its lease at {until:.3f}")
    return found


def commits_stay_behind(samples: Sequence[CommitSample]) -> list[str]:
    return [
        f"I4: partition {sample.partition} committed {sample.committed}, but {sample.lowest_unfinished} is unfinished"
        for sample in samples
        if sample.committed > sample.lowest_unfinished
    ]


def lowest_unfinished(
    records: Sequence[Record], *, finished: Collection[str], journalled: Collection[str] = ()
) -> dict[int, int]:
    """Per partition the lowest offset that must not be committed past; the end of the log where all are finished.

    `records` are in log order per partition. Only the last copy of a task counts (a straggler is appended again and its
    old offset released), and none of one that the delayed journal holds (a retry waits there, not in its partition).
    """
    done, held = set(finished), set(journalled)
    # Which of two copies in different partitions is the later one cannot be told, so neither is judged (I1 still is).
    last = {(record.task_id, record.partition): record.offset for record in records}
    elsewhere = Counter(task_id for task_id, _ in last)
    lowest: dict[int, int] = {}
    ends: dict[int, int] = {}
    for record in records:
        ends[record.partition] = max(ends.get(record.partition, 0), record.offset + 1)
        settled = record.task_id in done or record.task_id in held or elsewhere[record.task_id] > 1
        if not settled and record.offset == last[record.task_id, record.partition]:
            lowest[record.partition] = min(lowest.get(record.partition, record.offset), record.offset)
    return {partition: lowest.get(partition, end) for partition, end in ends.items()}


def executions_are_bounded(
    executions: Sequence[Execution], *, faults: int, retries: Mapping[str, int] | None = None
) -> list[str]:
    allowed_retries = retries or {}
    counts = Counter(run.task_id for run in executions)
    # By nonce, as attempts count from 1 again after the loss of all of Redis's data.
    claims = Counter((run.task_id, run.attempt, run.nonce) for run in executions)
    found = [
        f"I5: attempt {attempt} of {task_id} ran {n} times" for (task_id, attempt, _), n in claims.items() if n > 1
    ]
    for task_id, count in counts.items():
        limit = 1 + faults + allowed_retries.get(task_id, 0)
        if count > limit:
            found.append(f"I5: {task_id} ran {count} times, more than {limit}")
    return found


def nothing_leaked(before: Census, after: Census) -> list[str]:
    found = []
    for kind in ("processes", "threads", "connections", "keys"):
        extra = Counter(getattr(after, kind)) - Counter(getattr(before, kind))
        found += [f"I6: {kind} left behind: {name} ({n})" for name, n in sorted(extra.items())]
    return found


def logs_are_clean(lines: Iterable[str]) -> list[str]:
    return [f"I7: {line.strip()}" for line in lines if DIRTY_LOG.search(line)]


def _finals(observations: Sequence[Observation]) -> dict[str, list[Observation]]:
    finals: dict[str, list[Observation]] = defaultdict(list)
    for seen in sorted(observations, key=_when):
        if seen.final:
            finals[seen.task_id].append(seen)
    return dict(finals)


def _when(seen: Observation) -> float:
    return seen.at


def _words(seen: Observation) -> str:
    return f"{seen.state} of attempt {seen.attempt} with {seen.result!r}"
