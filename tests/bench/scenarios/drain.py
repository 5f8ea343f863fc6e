"""A, BR and D: tasks that were queued before are drained by one worker.

The clock runs from the first task (stamped in the worker) until the last final state is visible in Redis; CPU is the
worker process's own, over the same time. The floor drains the very same topic, before the worker does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.finals import Finals
from tests.bench.measure import Measure
from tests.bench.processes import child, first_tasks, new_app, workers

if TYPE_CHECKING:
    from tests.bench.scenarios import Plan

_TIMEOUT_S = 600.0
_JOINED_S = 1.0  # for the rebalance that the last worker's join began


@dataclass(frozen=True)
class Drained:
    """One drain. CPU in microseconds a task."""

    wall_s: float
    rate: float
    worker_us: float
    kafka_us: float
    redis_us: float
    peak_mb: float


def run(
    plan: Plan,
    app: str,
    ids: list[str],
    *,
    count: int = 1,
    concurrency: int = 100,
    interval_s: float = 0.004,
    together: bool = False,
) -> Drained:
    """Start workers, let them drain `ids`, and take the measures.

    together: the clock starts when all workers have tasks, which they hold back until then.
    """
    gate = plan.folder / f"gate-{app}" if together else None
    with (
        plan.stack.store() as store,
        workers(plan.stack, app, plan.folder, count=count, concurrency=concurrency, gate=gate) as up,
    ):
        start = min(first_tasks(up))
        if gate is not None:
            time.sleep(_JOINED_S)
        cpu = sum(worker.cpu_s() for worker in up)
        kafka, redis = plan.stack.servers_cpu_s()
        if gate is not None:
            start = time.monotonic()
            gate.touch()
        wall = Finals(store, app, ids).wait(_TIMEOUT_S, interval_s) - start
        cpu = sum(worker.cpu_s() for worker in up) - cpu
        kafka_after, redis_after = plan.stack.servers_cpu_s()
        peak = max(worker.rss_mb() for worker in up)
    n = len(ids)
    us = 1e6 / n
    return Drained(wall, n / wall, cpu * us, (kafka_after - kafka) * us, (redis_after - redis) * us, peak)


def noops(plan: Plan) -> list[Measure]:
    """A: 50,000 no-ops at concurrency 100."""
    n = plan.scaled(50_000)
    rate = Measure("A", f"{n:,} queued no-ops, drained", "tasks/s", ratio_target=1.0)
    cpu = Measure("A", "CPU of the worker", "us/task", better="lower")
    kafka = Measure("A", "CPU of Kafka", "us/task", better="lower")
    redis = Measure("A", "CPU of Redis", "us/task", better="lower")
    for turn in range(plan.repeats + 1):
        plan.fresh()
        app = new_app()
        ids = child(plan.stack, "fill", app, n=n if turn else n // 5)["ids"]
        floor = child(plan.stack, "floor_drain", app, n=len(ids))
        drained = run(plan, app, ids)
        if turn == 0:  # warm-up
            continue
        rate.samples.append(drained.rate)
        rate.floor.append(floor["rate"])
        cpu.samples.append(drained.worker_us)
        cpu.floor.append(floor["cpu_us"])
        kafka.samples.append(drained.kafka_us)
        redis.samples.append(drained.redis_us)
    return [rate, cpu, kafka, redis]


def among_bad(plan: Plan) -> list[Measure]:
    """BR: 90,000 no-ops among 10,000 bad records. Here the floor is the same worker without the bad ones."""
    n = plan.scaled(90_000)
    rate = Measure("BR", f"{n:,} queued no-ops, and one bad record for each nine", "tasks/s", ratio_target=0.7)
    for turn in range(plan.repeats + 1):
        found = []
        for what in ("fill", "fill_among_bad"):
            plan.fresh()
            app = new_app()
            ids = child(plan.stack, what, app, n=n if turn else n // 9)["ids"]
            found.append(run(plan, app, ids).rate)
        if turn:
            rate.floor.append(found[0])
            rate.samples.append(found[1])
    return [rate]


def sleepers(plan: Plan) -> list[Measure]:
    """D: 2,000 tasks of 50 ms at concurrency 1,000. The least possible is 0.1 s."""
    n, concurrency = 2_000, 1_000
    wall = Measure("D", "2,000 tasks of 50 ms, 1,000 at once", "s", better="lower", target=0.2)
    for turn in range(plan.repeats + 1):
        plan.fresh()
        app = new_app()
        ids = child(plan.stack, "fill", app, n=n, task="sleep50")["ids"]
        floor = child(plan.stack, "floor_drain", app, n=n, sleep_s=0.05, concurrency=concurrency)
        drained = run(plan, app, ids, concurrency=concurrency, interval_s=0.002)
        if turn:
            wall.samples.append(drained.wall_s)
            wall.floor.append(floor["wall"])
    return [wall]
