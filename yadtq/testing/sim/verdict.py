"""The end of a simulation: each accepted task has ended as it had to, and nothing is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.execution.quarantine.report import PROOFS
from yadtq.testing.sim.load import LIMIT_S
from yadtq.wire.codec import decode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yadtq.testing.sim.invariants import End
    from yadtq.testing.sim.load import Job, Run
    from yadtq.testing.sim.scenario import Scenario

__all__ = ["final_problems"]

#: An outcome may be on its way for so long after a run's last line in the ledger.
_FINISHING_S = 1.0
#: A task that ends each process in which it runs is found guilty after so many at the latest.
_MOST_CRASHES = 10


def final_problems(scenario: Scenario) -> Iterator[str]:
    """In words; nothing if all is well."""
    judge = scenario.judge
    for job in scenario.jobs.values():
        end = judge.ended.get(job.task_id)
        runs = scenario.ledger.runs.get(job.task_id, [])
        if job.task_id not in scenario.notes.acknowledged or job.task_id in judge.damaged:
            continue
        if end is None and job.task_id in judge.deleted:
            continue
        if end is None:
            yield f"{job.task_id} ({job.kind}) was accepted and has not ended: {scenario.where_is(job.task_id)}"
            continue
        yield from _right_end(scenario, job, end, runs)
        yield from _right_count(scenario, job, runs)
    yield from _clients(scenario)
    yield from _partitions(scenario)
    yield from scenario.fleet.problems_at_rest()


def _right_end(scenario: Scenario, job: Job, end: End, runs: list[Run]) -> Iterator[str]:
    if end.status is not job.status:
        touched = sum(any(touch.meets(run, _FINISHING_S) for touch in scenario.judge.touches) for run in runs)
        error = str(decode(end.payload).get("type")) if end.status is TaskStatus.FAILED else ""
        excused = (
            (error == "TaskTimeout" and job.kind == "slow" and _took_too_long(runs))  # in a process that was held up
            or (error == "WorkerCrashed" and (job.kind == "crasher" or _died_too_often(scenario, runs)))
            or (job.kind == "flaky" and touched > 0)  # a run that raised may not have been told of
        )
        if not excused:
            yield f"{job.task_id} ({job.kind}) ended {end.status} {error}, not {job.status}"
    if end.status is TaskStatus.SUCCESS and decode(end.payload) != f"{job.task_id}/{end.attempt}":
        yield f"{job.task_id} has the result {end.payload!r} of another attempt than {end.attempt}"
    latest = max((run.attempt for run in runs), default=0)
    if end.attempt < latest and not scenario.redis.lost_at:
        yield f"{job.task_id} ended by attempt {end.attempt}, but attempt {latest} was started"
    if not scenario.redis.lost_at:
        state = scenario.judge._state(job.task_id)
        if (state.status, state.payload, state.attempt) != (end.status, end.payload, end.attempt):
            yield f"{job.task_id} was {end.status} of attempt {end.attempt}, and is {state.status} of {state.attempt}"


def _died_too_often(scenario: Scenario, runs: list[Run]) -> bool:
    """More deaths of workers than chance explains, or of children in which it may have been alone."""
    children = [touch for touch in scenario.judge.touches if touch.kind == "kill-child"]
    alone = sum(any(touch.meets(run, _FINISHING_S) for run in runs) for touch in children)
    return len(scenario.fleet.changes) >= scenario.options.crash_limit or alone >= PROOFS


def _took_too_long(runs: list[Run]) -> bool:
    return any(run.ended_at is None or run.ended_at - run.started_at >= LIMIT_S for run in runs)


def _right_count(scenario: Scenario, job: Job, runs: list[Run]) -> Iterator[str]:
    """G3: only a fault causes a second execution."""
    touches = scenario.judge.touches
    asked = {"flaky": job.trouble, "crasher": min(job.trouble, _MOST_CRASHES)}.get(job.kind, 0)
    if scenario.redis.lost_at:
        asked *= 1 + len(scenario.redis.lost_at)
    # One that meets several workers, the death of their supervisor for example, may cost a run on each of them: they
    # notice it at different times, and a task that one gives back is claimed by the next.
    met = {
        (id(touch), run.worker if touch.workers else "")
        for run in runs
        for touch in touches
        if touch.meets(run, _FINISHING_S)
    }
    if len(runs) > 1 + asked + len(met):
        told = ", ".join(
            f"{run.attempt} on {run.worker} at {run.started_at:.2f} ({run.how or 'no end'})" for run in runs
        )
        yield f"{job.task_id} ({job.kind}) ran {len(runs)} times, {len(met)} faults met it: {told}"


def _clients(scenario: Scenario) -> Iterator[str]:
    notes = scenario.notes
    for task_id, (status, value) in notes.seen.items():
        if task_id in scenario.judge.damaged:
            continue
        end = scenario.judge.ended.get(task_id)
        if end is None:
            yield f"a client was told that {task_id} is {status}, and it has not ended"
        elif not scenario.redis.lost_at and status is not end.status:
            yield f"a client was told that {task_id} is {status}, and it is {end.status}"
        elif not scenario.redis.lost_at and status is TaskStatus.SUCCESS and value != decode(end.payload):
            yield f"a client was told {value!r} of {task_id}, and it is {end.payload!r}"
    if notes.lost and not scenario.redis.lost_at:
        yield f"results are lost, though Redis has kept its data: {sorted(notes.lost)[:5]}"
    if notes.not_found - scenario.judge.deleted - scenario.judge.damaged:
        yield f"a client was told that its own tasks are unknown: {sorted(notes.not_found)[:5]}"
    waiting = notes.waiting - scenario.judge.deleted
    if waiting:
        yield f"clients still wait for {sorted(waiting)[:5]}"


def _partitions(scenario: Scenario) -> Iterator[str]:
    """All is committed when all has ended."""
    for number, committed, end in scenario.uncommitted():
        yield f"partition {number} is committed up to {committed}, it ends at {end}"
