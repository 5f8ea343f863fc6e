"""Where the time goes: cProfile of the worker as it drains (A), of the client as it submits (B1, B2) or waits (C)."""

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

_CLIENTS = {"B1": ["submit_each"], "B2": ["submit_many", "submit_gathered"], "C": ["round_trips"]}


def run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="yadtq-bench-") as name, stacks.opened(arguments.stack) as stack:
        folder = Path(name)
        for scenario in arguments.scenario.split(","):
            if scenario == "A":
                _worker(stack, folder, arguments.n, arguments.count, arguments.partitions)
            for what in _CLIENTS.get(scenario, []):
                _client(stack, folder, what, arguments.n if scenario == "B2" else arguments.n // 5, arguments.count)
    return 0


def _worker(stack: Stack, folder: Path, n: int, count: int, partitions: int) -> None:
    app, path = new_app(), folder / "worker.prof"
    ids = child(stack, "fill", app, n=n, partitions=partitions)["ids"]
    with stack.store() as store, workers(stack, app, folder, profile=path) as up:
        (start,) = first_tasks(up)
        wall = Finals(store, app, ids).wait(300) - start
    print(f"\n# A worker, {n:,} no-ops: {n / wall:,.0f}/s under the profiler; start and imports are in the profile")
    print(profiling.top(path, count, n), flush=True)


def _client(stack: Stack, folder: Path, what: str, n: int, count: int) -> None:
    app, path = new_app(), folder / f"{what}.prof"
    with workers(stack, app, folder, count=int(what == "round_trips")):
        child(stack, what, app, n=n, profile=str(path))
    print(f"\n# client, {what}, {n:,} tasks")
    print(profiling.top(path, count, n), flush=True)
