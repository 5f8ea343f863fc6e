"""A swarm of seeds: each draws a fleet, settings, a load and faults; then all is quiet, and everything must end in time."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

from yadtq.testing.sim.faults import draw_kinds
from yadtq.testing.sim.load import Job
from yadtq.testing.sim.run import Report, in_world
from yadtq.testing.sim.scenario import Plan, Scenario
from yadtq.testing.sim.verdict import final_problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from yadtq.testing.sim.faults import Kind
    from yadtq.testing.sim.world import World

__all__ = ["draw_plan", "run_deploy", "run_seed", "run_twice"]

#: Nothing may change any more after everything has ended.
_AFTER_S = 15.0
_COMMITTED_AGAIN_S = 40.0
#: How long workers of old code keep what they don't know: longer than faults last, so that none of it may fail.
_DEPLOY_S = 120.0


def draw_plan(chance: Random) -> Plan:
    heartbeat_s = chance.choice([0.5, 1.0])
    lease_s = chance.choice([3.0, 7.0])
    concurrency = chance.choice([1, 2, 5, 20, 100])
    # A span of less than some shares of the window moves records that only wait for a slot, again and again; so does a
    # short age where few run at once.
    window, span = chance.choice([(10, 300), (100, 500), (4_000, 20_000)])
    workers = chance.choice([1, 2, 2, 3, 4, 6])
    return Plan(
        workers=workers,
        hosts=chance.choice([1, 1, 2]),
        partitions=chance.choice([1, 2, 4, 8]),
        clients=[_draw_client(chance, number) for number in range(chance.choice([1, 1, 2]))],
        settings={
            "lease_s": lease_s,
            "heartbeat_s": heartbeat_s,
            "session_timeout_s": chance.choice([3.0, 7.0]),
            "redis_timeout_s": chance.choice([1.0, lease_s / 2]),
            "submit_timeout_s": chance.choice([4.0, 15.0]),
        },
        options={
            "concurrency": concurrency,
            "window": window,
            "span": span,
            "straggler_age_s": chance.choice([5.0, 20.0, 3_600.0]) if concurrency > 5 else 3_600.0,
            "commit_interval_s": chance.choice([0.1, 0.5]),
            "truncate_interval_s": chance.choice([2.0, 300.0]),
            "grace_s": chance.choice([0.5, 10.0]),
            "unknown_task_window_s": 2.0,
            "crash_limit": chance.choice([20, 1_000]),
        },
        skew_s=chance.choice([0.0, 100.0]),
    )


def _draw_client(chance: Random, number: int) -> list[tuple[float, list[Job]]]:
    turns: list[tuple[float, list[Job]]] = []
    serial = 0
    crashers = chance.random() < 0.2
    for _ in range(chance.randrange(3, 12)):
        jobs = []
        for _ in range(chance.choice([1, 5, 20, 60])):
            serial += 1
            kind = chance.choices(["nap", "flaky", "slow", "crasher"], [6, 2, 1, 0.1 if crashers else 0])[0]
            seconds = chance.choice([0.0, 0.0, 0.05, 0.5, 0.9, 3.0])
            trouble = chance.choice({"flaky": [0, 1, 2, 4], "crasher": [1, 2, 100]}.get(kind, [0]))
            jobs.append(Job(f"c{number}.{serial}", kind, seconds, trouble))
        turns.append((chance.uniform(0.0, 2.0), jobs))
    return turns


def bound_s(scenario: Scenario) -> float:
    """Until everything has ended, once all is quiet: leases, sessions, back-offs, restarts, and the work itself."""
    settings, options, plan = scenario.settings, scenario.options, scenario.plan
    work_s = sum(4 * min(job.seconds, 3.0) for job in scenario.jobs.values())
    slots = plan.workers * options.concurrency
    # Old workers can't run all of it, and what nobody knows waits for its window.
    deploy_s = 3 * work_s / slots + options.unknown_task_window_s if plan.two_versions else 0.0
    own_s = 3 * work_s / slots + 0.1 * len(scenario.jobs)
    return 60.0 + 6 * (settings.lease_s + settings.session_timeout_s) + own_s + deploy_s


def side_by_side(plan: Plan) -> None:
    """Make it a deploy: workers of old and of new code, and tasks that only the new code can run."""
    plan.two_versions, plan.workers, plan.hosts = True, max(2, plan.workers), 1
    # A worker without a partition can't be given anything.
    plan.partitions = max(plan.workers, plan.partitions)
    plan.options["unknown_task_window_s"] = _DEPLOY_S
    kinds = cycle(("added", "grown", "nap"))
    plan.clients = [
        [
            (wait_s, [replace(job, kind=next(kinds)) if job.kind == "nap" else job for job in jobs])
            for wait_s, jobs in turns
        ]
        for turns in plan.clients
    ]


def run_seed(
    seed: int,
    *,
    kinds: tuple[Kind, ...] | None = None,
    changes: dict[str, Any] | None = None,
    change: Callable[[Plan], None] = lambda plan: None,
) -> Report:
    """One run. kinds: instead of those that the seed draws. changes, change: of the plan that it draws."""

    def play(world: World, report: Report) -> None:
        plan = draw_plan(world.rng)
        for name, value in (changes or {}).items():
            setattr(plan, name, value)
        change(plan)
        drawn = draw_kinds(world.rng)
        scenario = Scenario(world, plan)
        report.tasks = len(scenario.jobs)
        report.command = f"--seed {seed} --seeds 1" + (" --deploy" if plan.two_versions else "")
        try:
            _trouble(scenario, drawn if kinds is None else kinds, report)
            _quiet(scenario, report)
        finally:
            report.worker_s = world.now * plan.workers

    return in_world(seed, play)


def run_deploy(seed: int) -> Report:
    """`run_seed` with workers of two versions."""
    return run_seed(seed, change=side_by_side)


def run_twice(seed: int) -> Report:
    """Both runs must be the same."""
    report, again = run_seed(seed), run_seed(seed)
    if report.digest != again.digest:
        report.problems.append(f"another run with this seed: {report.digest} and {again.digest}")
    return report


def _trouble(scenario: Scenario, kinds: tuple[Kind, ...], report: Report) -> None:
    world, chance = scenario.world, scenario.world.rng
    every_s = chance.choice([0.3, 1.0, 3.0, 10.0])
    lasts_s = chance.uniform(5.0, 40.0)
    scenario.start()
    world.note("world", "faults", " ".join(kind.name for kind in kinds))
    end = world.now + lasts_s
    while world.now < end:
        world.pass_time(min(end - world.now, chance.expovariate(1 / every_s)))
        if kinds and world.now < end:
            kind = chance.choices(kinds, [each.weight for each in kinds])[0]
            world.note("world", "fault", kind.name)
            report.faults += 1
            kind.act(scenario, chance)


def _quiet(scenario: Scenario, report: Report) -> None:
    world = scenario.world
    scenario.calm()
    within_s = bound_s(scenario)
    if not world.run(lambda: scenario.all_ended, within_s):
        report.problems.append(f"not everything has ended {within_s:.0f} s after the last fault")
    world.pass_time(_AFTER_S)
    # A commit that arrives late sets an offset back; now and then everything is committed again.
    world.run(lambda: not scenario.uncommitted(), _COMMITTED_AGAIN_S)
    report.problems += list(final_problems(scenario))
