"""S: two workers against one, and whether a task costs the same whatever the backlog and the number of partitions.

The column "floor" holds the side to compare with: one worker, the smallest backlog, four partitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.finals import Finals
from tests.bench.measure import Measure
from tests.bench.processes import child, new_app, workers
from tests.bench.scenarios.drain import run

if TYPE_CHECKING:
    from tests.bench.scenarios import Plan

_WARM_UP = 5_000
_FLAT = 1.15
_TIMEOUT_S = 60.0


def two_workers(plan: Plan) -> list[Measure]:
    """S1. All workers have joined and hold their first tasks back until the clock starts.

    No-ops keep a worker and its servers busy with more than one core, so on two cores a second worker can't double
    anything. Tasks that wait 50 ms show what it does while cores last. Cores busy: workers, Kafka and Redis together.
    """
    return [
        *_two_against_one(plan, "noop", "no-ops", plan.scaled(100_000), 100),
        *_two_against_one(plan, "sleep50", "tasks of 50 ms, 500 at once each", plan.scaled(40_000), 500),
    ]


def _two_against_one(plan: Plan, task: str, what: str, n: int, concurrency: int) -> list[Measure]:
    rate = Measure("S1", f"2 workers, {n:,} {what}", "tasks/s", ratio_target=1.7)
    busy = Measure("S1", f"- cores busy with {n:,} {what}", "cores", better="lower", steady=False)
    for _ in range(plan.repeats):
        for count, rates, cores in ((1, rate.floor, busy.floor), (2, rate.samples, busy.samples)):
            plan.fresh()
            app = new_app()
            ids = child(plan.stack, "fill", app, n=n, task=task)["ids"]
            drained = run(plan, app, ids, count=count, concurrency=concurrency, together=True)
            rates.append(drained.rate)
            cores.append((drained.worker_us + drained.kafka_us + drained.redis_us) * drained.rate / 1e6)
    return [rate, busy]


def backlogs(plan: Plan) -> list[Measure]:
    """S2: CPU of the worker a task, with 1,000 to 1,000,000 tasks queued (up to 100,000 if quick).

    A small backlog is over too soon to be measured once: it is drained many times by the same worker, which is frozen
    (SIGSTOP) while the next one is queued.
    """
    sizes = (1_000, 10_000, 100_000) if plan.quick else (1_000, 10_000, 100_000, 1_000_000)
    costs: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(plan.repeats):
        for size in sizes:
            costs[size].append(_cost(plan, size) if size > 20_000 else _cost_of_rounds(plan, size))
    return [
        Measure("S2", f"worker CPU with {n:,} queued", "us/task", costs[n], costs[1_000], "lower", ratio_target=_FLAT)
        for n in sizes
    ]


def partitions(plan: Plan) -> list[Measure]:
    """S3: CPU of the worker a task, from 4 to 128 partitions."""
    counts = (4, 16, 64, 128)
    n = plan.scaled(50_000)
    costs: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(plan.repeats):
        for count in counts:
            costs[count].append(_cost(plan, n, count))
    return [
        Measure("S3", f"worker CPU, {k} partitions", "us/task", costs[k], costs[4], "lower", ratio_target=_FLAT)
        for k in counts
    ]


def _cost(plan: Plan, n: int, partitions: int = 4) -> float:
    plan.fresh()
    app = new_app()
    return run(plan, app, child(plan.stack, "fill", app, n=n, partitions=partitions)["ids"]).worker_us


def _cost_of_rounds(plan: Plan, n: int) -> float:
    rounds = max(3, plan.scaled(20_000) // n)
    plan.fresh()
    app = new_app()
    cpu = 0.0
    with plan.stack.store() as store, workers(plan.stack, app, plan.folder) as (worker,):
        warm_up = child(plan.stack, "fill", app, n=_WARM_UP)["ids"]
        Finals(store, app, warm_up).wait(_TIMEOUT_S)
        for _ in range(rounds):
            with worker.frozen():
                ids = child(plan.stack, "fill", app, n=n)["ids"]
                before = worker.cpu_s()
            Finals(store, app, ids).wait(_TIMEOUT_S)
            cpu += worker.cpu_s() - before
    return cpu / (rounds * n) * 1e6
