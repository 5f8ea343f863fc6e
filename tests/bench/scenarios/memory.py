"""E and F: what a worker holds in memory, and what a finished task leaves behind in Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.finals import Finals
from tests.bench.measure import Measure
from tests.bench.processes import child, new_app, workers
from tests.bench.scenarios.drain import run

if TYPE_CHECKING:
    from tests.bench.processes import Worker
    from tests.bench.scenarios import Plan

_SETTLE_S = 4.0
_PARTITIONS = 4
_TIMEOUT_S = 300.0


def resident(plan: Plan) -> list[Measure]:
    """E: RSS of a worker that waits, and of the same one after 100,000 tasks."""
    n = plan.scaled(100_000)
    idle = Measure("E", "worker RSS, idle", "MB", better="lower", target=50)
    loaded = Measure("E", f"worker RSS after {n:,} tasks", "MB", better="lower", target=80)
    cpu = Measure("E", "worker CPU, idle", "%", better="lower")
    for _ in range(plan.repeats):
        plan.fresh()
        app = new_app()
        with workers(plan.stack, app, plan.folder) as (worker,):
            child(plan.stack, "one", app)
            time.sleep(_SETTLE_S)
            idle.samples.append(worker.rss_mb())
            cpu.samples.append(_idle_percent(worker))
            _work(plan, app, n)
            loaded.samples.append(worker.rss_mb())
    return [idle, loaded, cpu]


def growth(plan: Plan) -> list[Measure]:
    """EL, the long run: RSS after each 100,000 tasks up to a million.

    It goes up and down by a tenth, with what the allocator has just given back. So the highest of the second half is
    compared with the highest of the first: what lies between is a leak.

    Once more with a straggler at the head of every partition, behind which nothing can be committed: its record has to be
    moved to the tail again and again.
    """
    rounds, n = (3, 20_000) if plan.quick else (10, 100_000)
    return [_growth(plan, rounds, n, 0), _growth(plan, rounds, n, _PARTITIONS)]


def _growth(plan: Plan, rounds: int, n: int, stragglers: int) -> Measure:
    behind = f" behind {stragglers} stragglers" if stragglers else ""
    after = Measure("EL", f"worker RSS after {rounds * n:,} tasks{behind}", "MB", better="lower", target=80)
    for _ in range(plan.repeats):
        plan.fresh()
        app = new_app()
        release = plan.folder / f"release-{app}"
        with workers(plan.stack, app, plan.folder) as (worker,):
            held = child(plan.stack, "stragglers", app, n=stragglers, path=str(release))["ids"]
            sizes = []
            for _ in range(rounds):
                _work(plan, app, n)
                sizes.append(worker.rss_mb())
            release.touch()
            _wait(plan, app, held)
        after.samples.append(max(sizes[rounds // 2 :]))
        after.floor.append(max(sizes[: rounds // 2]))
    return after


def stored(plan: Plan) -> list[Measure]:
    """F: used_memory of Redis over the number of finished tasks, each with a small result."""
    n = plan.scaled(50_000)
    size = Measure("F", "Redis memory of a finished task", "bytes", better="lower", target=300)
    for _ in range(plan.repeats):
        plan.fresh()
        app = new_app()
        with plan.stack.store() as store:
            before = int(store.info("memory")["used_memory"])
            run(plan, app, child(plan.stack, "fill", app, n=n)["ids"])
            time.sleep(0.5)  # the clients that have gone are taken out of account by Redis's cron
            size.samples.append((int(store.info("memory")["used_memory"]) - before) / n)
    return [size]


def _work(plan: Plan, app: str, n: int) -> None:
    _wait(plan, app, child(plan.stack, "fill", app, n=n)["ids"])


def _wait(plan: Plan, app: str, ids: list[str]) -> None:
    with plan.stack.store() as store:
        Finals(store, app, ids).wait(_TIMEOUT_S)


def _idle_percent(worker: Worker, seconds: float = 3.0) -> float:
    start, cpu = time.monotonic(), worker.cpu_s()
    time.sleep(seconds)
    return (worker.cpu_s() - cpu) / (time.monotonic() - start) * 100
