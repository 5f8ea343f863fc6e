"""S: two workers against one, and whether a task costs the same whatever the backlog and the number of partitions.

The column "floor" holds the side to compare with: one worker, the smallest backlog, four partitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.measure import Measure
from tests.bench.processes import child, new_app
from tests.bench.scenarios.drain import run

if TYPE_CHECKING:
    from tests.bench.scenarios import Plan

_WARM_UP = 2_000
_FLAT = 1.15


def two_workers(plan: Plan) -> list[Measure]:
    """S1. All workers have joined and hold their first tasks back until the clock starts."""
    n = plan.scaled(100_000)
    rate = Measure("S1", f"2 workers, {n:,} no-ops", "tasks/s", ratio_target=1.7)
    busy = Measure("S1", "2 workers: cores busy (workers, Kafka, Redis)", "cores", better="lower")
    for _ in range(plan.repeats):
        for count in (1, 2):
            plan.fresh()
            app = new_app()
            drained = run(plan, app, child(plan.stack, "fill", app, n=n)["ids"], count=count, together=True)
            if count == 1:
                rate.floor.append(drained.rate)
            else:
                rate.samples.append(drained.rate)
                us = drained.worker_us + drained.kafka_us + drained.redis_us
                busy.samples.append(us * drained.rate / 1e6)
    return [rate, busy]


def backlogs(plan: Plan) -> list[Measure]:
    """S2: CPU of the worker a task, with 1,000 to 1,000,000 tasks queued (up to 100,000 if quick)."""
    sizes = (1_000, 10_000, 100_000) if plan.quick else (1_000, 10_000, 100_000, 1_000_000)
    costs = {size: [_cost(plan, size) for _ in range(plan.repeats)] for size in sizes}
    return [
        Measure("S2", f"worker CPU with {n:,} queued", "us/task", costs[n], costs[1_000], "lower", ratio_target=_FLAT)
        for n in sizes
    ]


def partitions(plan: Plan) -> list[Measure]:
    """S3: CPU of the worker a task, from 4 to 128 partitions."""
    counts = (4, 16, 64, 128)
    n = plan.scaled(50_000)
    costs = {count: [_cost(plan, n, count) for _ in range(plan.repeats)] for count in counts}
    return [
        Measure("S3", f"worker CPU, {k} partitions", "us/task", costs[k], costs[4], "lower", ratio_target=_FLAT)
        for k in counts
    ]


def _cost(plan: Plan, n: int, partitions: int = 4) -> float:
    """The clock starts once a worker has warmed up on the first of the tasks."""
    plan.fresh()
    app = new_app()
    ids = child(plan.stack, "fill", app, n=n + _WARM_UP, partitions=partitions)["ids"]
    return run(plan, app, ids, warm_up=_WARM_UP, interval_s=0.002).worker_us
