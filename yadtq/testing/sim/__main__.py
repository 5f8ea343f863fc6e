"""`python -m yadtq.testing.sim`: a swarm of seeds, or a sweep, on all cores. A failure says how to repeat it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, count, islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from yadtq.testing.sim.run import keep_imports
from yadtq.testing.sim.scale import run_scale
from yadtq.testing.sim.swarm import run_deploy, run_seed, run_twice
from yadtq.testing.sim.sweep import SCENARIOS, count_points, run_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from yadtq.testing.sim.run import Report

#: Runs that a process does before it is replaced by a fresh one.
_RUNS = 50
_TELL_EVERY = 500


def main(argv: list[str] | None = None) -> int:
    """The exit status: 1 if an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m yadtq.testing.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--minutes", type=float, help="as many seeds as that gives time for")
    parser.add_argument("--sweep", choices=[small.name for small in SCENARIOS], help="kill at each call of a scenario")
    parser.add_argument("--scale", type=int, help="one run of so many workers, and as many partitions")
    parser.add_argument("--step", type=int, default=1, help="of a sweep: only each n-th call")
    parser.add_argument("--point", type=int, help="of a sweep: only this call")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--twice", action="store_true", help="each seed twice: both runs must be the same")
    parser.add_argument("--deploy", action="store_true", help="workers of old and of new code in each fleet")
    given = parser.parse_args(argv)
    began = time.monotonic()
    total = _Total()
    for report in _reports(given):
        total.add(report)
        if report.problems:
            _tell(report)
        if total.runs % _TELL_EVERY == 0:
            print(total.words(time.monotonic() - began), flush=True)
        if given.minutes is not None and time.monotonic() - began > given.minutes * 60:
            break
    print(total.words(time.monotonic() - began), flush=True)
    return 1 if total.failed else 0


def _reports(given: argparse.Namespace) -> Iterator[Report]:
    if given.scale:
        yield run_scale(given.seed, given.scale, given.scale, 10 * given.scale)
    elif given.sweep:
        small = next(each for each in SCENARIOS if each.name == given.sweep)
        if given.point:
            targets: Iterable[int] = [given.point]
        else:
            targets = range(1, count_points(small, given.seed) + 1, given.step)
        yield from _on_cores(given.jobs, partial(run_named, given.sweep, given.seed), targets)
    else:
        seeds = count(given.seed) if given.minutes is not None else range(given.seed, given.seed + given.seeds)
        run = run_deploy if given.deploy else run_twice if given.twice else run_seed
        yield from _on_cores(given.jobs, run, seeds)


def _on_cores(jobs: int, run: Callable[[int], Report], numbers: Iterable[int]) -> Iterator[Report]:
    left = iter(numbers)
    first = list(islice(left, 2))
    if len(first) < 2:
        yield from map(run, first)
        return
    left = chain(first, left)
    # Fresh processes now and then: caches grow with the apps that were made. A few at a time, so that an endless row of
    # seeds can be broken off.
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=keep_imports, max_tasks_per_child=_RUNS
    ) as pool:
        under_way = [pool.submit(run, number) for number in islice(left, 4 * jobs)]
        try:
            while under_way:
                yield under_way.pop(0).result()
                under_way += [pool.submit(run, number) for number in islice(left, 1)]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Total:
    """Of all runs."""

    def __init__(self) -> None:
        self.runs = self.failed = self.events = self.calls = self.tasks = self.faults = 0
        self.virtual_s = self.worker_s = self.seconds = 0.0

    def add(self, report: Report) -> None:
        self.runs += 1
        self.failed += bool(report.problems)
        self.events += report.events
        self.calls += report.calls
        self.tasks += report.tasks
        self.faults += report.faults
        self.virtual_s += report.virtual_s
        self.worker_s += report.worker_s
        self.seconds += report.seconds

    def words(self, took_s: float) -> str:
        busy_s = self.seconds or 1.0
        return (
            f"{self.runs} runs in {took_s:.1f} s, {self.failed} with violations: {self.virtual_s / 3600:.2f} virtual h, "
            f"{self.tasks} tasks, {self.faults} faults, {self.calls} calls; a core does "
            f"{self.events / busy_s:,.0f} events/s and {self.worker_s / busy_s:,.0f} worker-seconds/s"
        )


def _tell(report: Report) -> None:
    print(f"\nseed {report.seed}: {len(report.problems)} problems {report.hit and f'(killed {report.hit})'}")
    for problem in report.problems[:10]:
        print(f"  {problem}")
    print(f"the last events:\n{report.tail}")
    print(report.again, flush=True)


if __name__ == "__main__":
    sys.exit(main())
