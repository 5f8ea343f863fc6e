"""YADTQ's row: its own scenarios, in the peers' words and with as much work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.processes import child, new_app, workers
from tests.bench.scenarios import drain, latency, memory

if TYPE_CHECKING:
    from tests.bench.scenarios import Plan


def measure_ours(plan: Plan, letters: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(name, []).append(value)

    for _ in range(plan.repeats):
        if "A" in letters:
            app = _fresh_app(plan)
            drained = drain.run(plan, app, child(plan.stack, "fill", app, n=plan.scaled(50_000))["ids"])
            add("rate", drained.rate)
            add("cpu_us", drained.worker_us)
        if "B" in letters:
            add("submit_each", child(plan.stack, "submit_each", _fresh_app(plan), n=plan.scaled(5_000))["rate"])
            add("submit_bulk", child(plan.stack, "submit_many", _fresh_app(plan), n=20_000)["rate"])
        if "C" in letters:
            app = _fresh_app(plan)
            with workers(plan.stack, app, plan.folder):
                times = child(plan.stack, "round_trips", app, n=plan.scaled(2_000))["times"]
            add("p50_ms", latency.quantile(times, 0.5) * 1000)
            add("p99_ms", latency.quantile(times, 0.99) * 1000)
        if "D" in letters:
            app = _fresh_app(plan)
            ids = child(plan.stack, "fill", app, n=2_000, task="sleep50")["ids"]
            add("sleep_s", drain.run(plan, app, ids, concurrency=1_000, interval_s=0.002).wall_s)
    if "E" in letters:
        values["rss_mb"] = memory.resident(plan)[0].samples
    if "F" in letters:
        values["bytes"] = memory.stored(plan)[0].samples
    return values


def _fresh_app(plan: Plan) -> str:
    plan.fresh()
    return new_app()
