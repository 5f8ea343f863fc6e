"""A sweep: one small scenario, again and again, with a kill of the calling process before and after each of its port calls.

So what must hold between any two steps is tried between any two steps, and not only where chance happens to strike.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yadtq.testing.sim.load import Job
from yadtq.testing.sim.run import Report, in_world
from yadtq.testing.sim.scenario import Plan, Scenario
from yadtq.testing.sim.verdict import final_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["SCENARIOS", "Small", "count_points", "run_named", "run_point", "sweep"]

_WITHIN_S = 150.0
_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class Small:
    """name: for the command line. plan: made for each run. meanwhile: what happens to it, apart from the kill."""

    name: str
    plan: Callable[[], Plan]
    meanwhile: Callable[[Scenario], None] = lambda scenario: None


def _jobs() -> list[Job]:
    kinds = [("nap", 0.0, 0), ("nap", 0.05, 0), ("flaky", 0.0, 1), ("nap", 0.5, 0), ("slow", 1.5, 0), ("nap", 0.2, 0)]
    return [Job(f"c0.{n}", kind, seconds, trouble) for n, (kind, seconds, trouble) in enumerate(kinds * 2)]


def _plan(jobs: Callable[[], list[Job]] = _jobs, **options: object) -> Callable[[], Plan]:
    def make() -> Plan:
        return Plan(
            workers=2,
            partitions=2,
            clients=[[(0.5, jobs())]],
            settings={"lease_s": 3.0, "session_timeout_s": 3.0},
            options={"concurrency": 5, "commit_interval_s": 0.2, "straggler_age_s": 3_600.0, **options},
        )

    return make


def _drain_at(seconds: float) -> Callable[[Scenario], None]:
    def drain(scenario: Scenario) -> None:
        if alive := scenario.fleet.alive():
            scenario.touch("drain", 20.0, alive[0].worker)
            alive[0].signal(signal.SIGTERM)

    return lambda scenario: scenario.world.call_later(seconds, lambda: drain(scenario))


def _lose_at(seconds: float) -> Callable[[Scenario], None]:
    def lose(scenario: Scenario) -> None:
        def now() -> None:
            scenario.touch("loss", scenario.settings.lease_s)
            scenario.redis.flush()

        scenario.world.call_later(seconds, now)

    return lose


def _stragglers(scenario: Scenario) -> None:
    """Undecodable and unknown records besides, so that dead letters are written."""
    for seconds in (0.6, 0.9, 1.2):
        scenario.world.call_later(seconds, lambda: scenario.foreign(scenario.world.rng))


def _crashers() -> list[Job]:
    kinds = [
        ("crasher", 0.1, 1),
        ("nap", 0.3, 0),
        ("crasher", 0.1, 100),
        ("nap", 0.0, 0),
        ("flaky", 0.1, 1),
        ("nap", 0.5, 0),
    ]
    return [Job(f"c0.{n}", kind, seconds, trouble) for n, (kind, seconds, trouble) in enumerate(kinds)]


def _kill_supervisor_at(seconds: float) -> Callable[[Scenario], None]:
    def kill(scenario: Scenario) -> None:
        if (boss := scenario.fleet.hosts[0].boss) is not None:
            scenario.touch("no supervisor", 40.0)
            scenario.world.kill(boss)

    return lambda scenario: scenario.world.call_later(seconds, lambda: kill(scenario))


SCENARIOS = (
    Small("plain", _plan()),
    Small("drain", _plan(), _drain_at(0.8)),
    Small("loss", _plan(), _lose_at(0.9)),
    Small("crashes", _plan(_crashers)),
    Small("supervisor", _plan(), _kill_supervisor_at(0.9)),
    Small("stragglers", _plan(straggler_age_s=0.4, unknown_task_window_s=0.3), _stragglers),
)


def _forgive(scenario: Scenario, killed: Node) -> None:
    if killed.name in scenario.links:
        scenario.touch("kill", 0.0, killed.name)


def run_point(small: Small, seed: int, target: int | None) -> Report:
    """One run; target: the number of the point at which the process that comes by is killed."""

    def play(world: World, report: Report) -> None:
        world.target = target
        report.command = f"--sweep {small.name} --seed {seed} --point {target}"
        scenario = Scenario(world, small.plan())
        world.on_kill.append(lambda node: _forgive(scenario, node))
        world.spared.add("client0")
        scenario.start()
        small.meanwhile(scenario)
        if not world.run(lambda: scenario.all_ended, _WITHIN_S):
            report.problems.append(f"not everything has ended within {_WITHIN_S:.0f} s")
        report.points = world.points  # not of the rest, in which nobody has anything to lose
        world.pass_time(_AFTER_S)
        report.problems += list(final_problems(scenario))

    return in_world(seed, play)


def run_named(name: str, seed: int, target: int) -> Report:
    """`run_point` of one of `SCENARIOS`."""
    return run_point(next(each for each in SCENARIOS if each.name == name), seed, target)


def count_points(small: Small, seed: int) -> int:
    """How many places there are at which a worker may be killed."""
    return run_point(small, seed, None).points


def sweep(small: Small, seed: int, *, step: int = 1, first: int = 1) -> Iterator[Report]:
    """A run for each point, or for each `step`-th of them from `first` on."""
    for target in range(first, count_points(small, seed) + 1, step):
        yield run_point(small, seed, target)
