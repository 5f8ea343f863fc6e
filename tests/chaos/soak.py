"""The full mix, for as long as one likes: faults by seed under a steady load, and at the end everything is judged."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.customer import Mix
from tests.chaos.oracle import second_executions
from tests.chaos.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.customer import Customer
    from tests.chaos.world import World

#: Kills come so often that a supervisor with the patience of production would give its slots up.
SETTINGS = {"YADTQ_SUPERVISOR_CRASH_BUDGET": "100000", "YADTQ_SUPERVISOR_BACKOFF_CAP_S": "1"}
SETTLES_S = 120.0
RECOVERS_S = 90.0


@dataclass
class Report:
    """What a soak has to say."""

    seed: int
    stack: str
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    submitted: int = 0
    acknowledged: int = 0
    uncertain: int = 0
    refused: int = 0
    executions: int = 0
    seconds_by_reason: Counter[str] = field(default_factory=Counter)
    spawned: int = 0
    commit_samples: int = 0
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        recoveries = sorted(self.recoveries) or [0.0]
        again = ", ".join(f"{reason} {count}" for reason, count in self.seconds_by_reason.most_common()) or "none"
        lines = [
            f"seed {self.seed}, stack {self.stack}, {self.seconds:.0f} s",
            f"faults      {sum(self.faults.values())}: "
            + ", ".join(f"{kind} {count}" for kind, count in self.faults.most_common()),
            f"tasks       {self.submitted} submitted, {self.acknowledged} acknowledged, "
            f"{self.uncertain} submits in doubt and {self.refused} refused (all repeated)",
            f"executions  {self.executions}; beyond the first, by reason: {again}",
            f"recovery    p50 {statistics.median(recoveries):.2f} s, p90 {recoveries[int(0.9 * len(recoveries))]:.2f} s, "
            f"max {recoveries[-1]:.2f} s until fresh tasks of all partitions were done",
            f"processes   {self.spawned} workers spawned; {self.commit_samples} samples of committed offsets",
            f"violations  {len(self.violations)}",
        ]
        return "\n".join(lines + [f"  {line}" for line in self.violations[:50]])


async def soak(
    world: World,
    *,
    seed: int,
    seconds: float,
    workers: tuple[int, int] = (2, 1),
    per_second: float = 30.0,
    storms_s: tuple[float, float] = (8.0, 20.0),
    tell: Callable[[str], None] = print,
) -> Report:
    """In an open world. The load goes on from the first fault to the last; then all has to come to its end."""
    report = Report(seed, world.stack)
    for party, count in zip("ab", workers, strict=True):
        await world.fleet(party, workers=count)
    customer = await world.customer()
    await world.watched()
    customer.start_load(Mix(), per_second)
    begun = world.pace.now()
    await _faults(world, customer, Scheduler(world, seed, storms_s=storms_s), begun + seconds, report, tell)
    try:
        await world.settled(SETTLES_S)
    except AssertionError as error:
        report.violations.append(f"I1: {error}")
    report.seconds = world.pace.now() - begun
    report.violations += await world.verdict()
    _sum_up(world, customer, report)
    return report


async def _faults(
    world: World, customer: Customer, scheduler: Scheduler, until: float, report: Report, tell: Callable[[str], None]
) -> None:
    begun = world.pace.now()
    while world.pace.now() < until:
        await world.pace.pause(scheduler.quiet_s())
        fault = scheduler.next()
        injected = world.pace.now()
        try:
            await fault.inject(world)
            await world.pace.pause(min(fault.lasts_s, max(0.0, until + 30 - world.pace.now())))
            await fault.heal(world)
            recovery = await world.probe(customer, RECOVERS_S)
        except (AssertionError, TimeoutError) as error:
            report.violations.append(f"recovery: {fault.describe()}: {type(error).__name__} {error}")
            tell(f"{world.pace.now() - begun:7.1f} s  {fault.describe()}: NOT RECOVERED: {error}")
            return
        report.faults[fault.kind] += 1
        report.recoveries.append(recovery)
        tell(
            f"{injected - begun:7.1f} s  {fault.describe()}: recovered in {recovery:.2f} s; "
            f"{len(customer.acknowledged)} tasks, {len(world.states.final)} final, {len(world.repeated())} run again"
        )


def _sum_up(world: World, customer: Customer, report: Report) -> None:
    evidence = world.evidence()
    report.submitted, report.acknowledged = len(customer.jobs), len(customer.acknowledged)
    report.uncertain, report.refused = customer.uncertain, customer.refused
    report.executions = len(evidence.executions)
    report.seconds_by_reason = second_executions(evidence)
    report.spawned = world.spawned()
    report.commit_samples = len(world.log.samples)
