"""Where the time goes: cProfile of the worker while it drains (A), and of the client while it submits (B1, B2)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import profiling, stacks
from tests.bench.finals import Finals
from tests.bench.processes import child, first_tasks, new_app, workers

if TYPE_CHECKING:
    import argparse

    from tests.bench.stacks import Stack

_CLIENTS = {"B1": ["submit_each"], "B2": ["submit_many", "submit_gathered"], "C": []}


def run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="yadtq-bench-") as name, stacks.opened(arguments.stack) as stack:
        folder = Path(name)
        for scenario in arguments.scenario.split(","):
            if scenario == "A":
                _worker(stack, folder, arguments.n, arguments.count)
            for what in _CLIENTS.get(scenario, []):
                n = arguments.n if scenario == "B2" else arguments.n // 5
                path = folder / f"{what}.prof"
                took = child(stack, what, new_app(), n=n, profile=str(path))
                print(f"\n# {scenario} {what}, {n:,} tasks: {took['rate']:,.0f}/s under the profiler")
                print(profiling.top(path, arguments.count, n), flush=True)
    return 0


def _worker(stack: Stack, folder: Path, n: int, count: int) -> None:
    app, path = new_app(), folder / "worker.prof"
    ids = child(stack, "fill", app, n=n)["ids"]
    with stack.store() as store, workers(stack, app, folder, profile=path) as up:
        (start,) = first_tasks(up)
        wall = Finals(store, app, ids).wait(300) - start
    print(f"\n# A worker, {n:,} no-ops: {n / wall:,.0f}/s under the profiler; start and imports are in the profile")
    print(profiling.top(path, count, n), flush=True)
