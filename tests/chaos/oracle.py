"""From what was written down to a verdict: which fault may have touched which task, and the judges of invariants.

The judges (tests/support/invariants.py) are strict about a world without faults. What a fault excuses is decided here,
and nowhere else: a `Touch` allows one more execution of the tasks that ran on these workers at that time, and a loss of
all of Redis's data parts the history of a task into eras, each of which is judged by itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tests.support.invariants import Census, History, violations

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tests.support.invariants import CommitSample, Observation
    from tests.support.ledger import Execution

T = TypeVar("T", "Execution", "Observation")

#: An outcome may be on its way to Redis for so long after the task's last line in the ledger.
FINISHING_S = 1.0
_CHUNK = 100


@dataclass(frozen=True)
class Touch:
    """A fault that may cause second executions. workers: None means all."""

    kind: str
    since: float
    until: float
    workers: frozenset[str] | None = None

    def meets(self, run: Execution) -> bool:
        ended = float("inf") if run.ended_at is None else run.ended_at
        return (
            (self.workers is None or run.worker in self.workers)
            and run.started_at <= self.until
            and ended + FINISHING_S >= self.since
        )


@dataclass
class Evidence:
    """Everything written down in a run."""

    acknowledged: Mapping[str, float]
    executions: Sequence[Execution]
    observations: Sequence[Observation]
    commits: Sequence[CommitSample] = ()
    touches: Sequence[Touch] = ()
    losses: Sequence[float] = ()
    retries: Mapping[str, int] = field(default_factory=dict)
    answered: Collection[str] = ()
    before: Census = field(default_factory=Census)
    after: Census = field(default_factory=Census)
    log_lines: Sequence[str] = ()

    def may_be_lost(self, task_id: str) -> bool:
        """Whether its result may have gone with Redis's data."""
        at = self.acknowledged.get(task_id)
        return at is not None and bool(self.losses) and at < self.losses[-1]


def touched_by(runs: Sequence[Execution], touches: Sequence[Touch]) -> list[Touch]:
    """Each touch once, however many executions of the task it met."""
    return [touch for touch in touches if any(touch.meets(run) for run in runs)]


def second_executions(evidence: Evidence) -> Counter[str]:
    """Executions beyond the first, by the kind of fault that touched the task (the last one), or "retry", or "none"."""
    reasons: Counter[str] = Counter()
    for task_id, runs in _by_task(evidence.executions).items():
        asked = min(len(runs) - 1, evidence.retries.get(task_id, 0))
        extra = len(runs) - 1 - asked
        reasons["retry"] += asked
        if extra:
            kinds = [touch.kind for touch in touched_by(runs, evidence.touches)]
            for place in range(extra):
                reasons[kinds[place % len(kinds)] if kinds else "none"] += 1
    return +reasons


def judge(evidence: Evidence, *, within_s: float) -> list[str]:
    """All violations. Tasks are judged in small groups, as the judges compare all with all."""
    found: list[str] = []
    for history in _histories(evidence):
        found += violations(history, within_s=within_s)
    commons = History(
        commits=evidence.commits, before=evidence.before, after=evidence.after, log_lines=evidence.log_lines
    )
    return found + violations(commons, within_s=within_s)


def _histories(evidence: Evidence) -> Iterator[History]:
    runs, seen = _by_task(evidence.executions), _by_task(evidence.observations)
    together = History(acknowledged={}, executions=[], observations=[], retries={})
    for task_id in {*evidence.acknowledged, *runs, *seen}:
        allowed = evidence.retries.get(task_id, 0) + len(touched_by(runs[task_id], evidence.touches))
        first_sign = _first_sign(evidence, task_id, runs[task_id])
        if lived_through := sum(first_sign < at for at in evidence.losses):
            allowed += lived_through * evidence.retries.get(task_id, 0)  # what had been counted is lost, too
            yield from _eras(evidence, task_id, runs[task_id], seen[task_id], allowed)
            continue
        if task_id in evidence.acknowledged:
            together.acknowledged[task_id] = evidence.acknowledged[task_id]  # type: ignore[index]
        together.executions.extend(runs[task_id])  # type: ignore[attr-defined]
        together.observations.extend(seen[task_id])  # type: ignore[attr-defined]
        together.retries[task_id] = allowed  # type: ignore[index]
        if len(together.retries) >= _CHUNK:
            yield together
            together = History(acknowledged={}, executions=[], observations=[], retries={})
    yield together


def _first_sign(evidence: Evidence, task_id: str, runs: Sequence[Execution]) -> float:
    began = min((run.started_at for run in runs), default=float("inf"))
    return min(began, evidence.acknowledged.get(task_id, float("inf")))


def _eras(
    evidence: Evidence, task_id: str, runs: Sequence[Execution], seen: Sequence[Observation], allowed: int
) -> Iterator[History]:
    """A task that lived through the loss of all states: what was final may run again, and attempts count anew."""
    # The bound on executions and the end of the task know no eras.
    ended = any(look.final for look in seen) or task_id in evidence.answered
    if not ended and task_id in evidence.acknowledged:
        yield History(acknowledged={task_id: evidence.acknowledged[task_id]}, observations=seen)
    yield History(executions=runs, retries={task_id: allowed})
    looks = defaultdict(list)
    for look in seen:
        looks[bisect_right(evidence.losses, look.at)].append(look)
    for part in looks.values():
        yield History(observations=part, executions=[run for run in runs if run.nonce == _winner(part)])


def _winner(seen: Sequence[Observation]) -> str | None:
    return next((look.nonce for look in seen if look.final), None)


def _by_task(items: Sequence[T]) -> defaultdict[str, list[T]]:
    grouped: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        grouped[item.task_id].append(item)
    return grouped
