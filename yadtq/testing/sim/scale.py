"""One run of many workers and many partitions: what grows with their number is seen here, in time and in events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from yadtq.testing.sim.load import Job
from yadtq.testing.sim.run import Report, in_world
from yadtq.testing.sim.scenario import Plan, Scenario
from yadtq.testing.sim.verdict import final_problems

if TYPE_CHECKING:
    from yadtq.testing.sim.process import SimProcess
    from yadtq.testing.sim.world import World

__all__ = ["run_scale"]

_START_S = 120.0
_WITHIN_S = 300.0
_AFTER_S = 5.0
_KILLED = 0.02
_ON_A_HOST = 20


def run_scale(seed: int, workers: int, partitions: int, tasks: int) -> Report:
    """All workers start, get their partitions and work; some are killed meanwhile; everything has to end."""

    def play(world: World, report: Report) -> None:
        report.command = f"--scale {workers} --seed {seed}"
        chance = world.rng
        jobs = [Job(f"c0.{n}", "nap", chance.choice([0.0, 0.05, 1.0])) for n in range(tasks)]
        turns = [(0.5 if at else 20.0, jobs[at : at + 500]) for at in range(0, tasks, 500)]
        hosts = max(1, workers // _ON_A_HOST)
        plan = Plan(workers=workers, hosts=hosts, partitions=partitions, clients=[turns], options={"concurrency": 10})
        scenario = Scenario(world, plan)
        report.tasks = tasks
        scenario.start()
        group = scenario.kafka.group(scenario.names.group)
        if not world.run(lambda: len(group.members) == workers and not group.preparing, _START_S):
            report.problems.append(f"{len(group.members)} of {workers} workers have a place after {_START_S:.0f} s")
        for process in chance.sample(scenario.fleet.alive(), int(workers * _KILLED)):
            world.call_later(chance.uniform(0.0, 20.0), partial(_kill, scenario, process))
            report.faults += 1
        if not world.run(lambda: scenario.all_ended, _WITHIN_S):
            report.problems.append(f"not everything has ended within {_WITHIN_S:.0f} s")
        world.pass_time(_AFTER_S)
        report.problems += list(final_problems(scenario))
        report.worker_s = world.now * workers

    return in_world(seed, play)


def _kill(scenario: Scenario, process: SimProcess) -> None:
    scenario.touch("kill", 0.0, process.worker)
    process.kill()
