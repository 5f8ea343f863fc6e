"""Who is blamed for a death: random kills from outside fail nobody, poison fails itself and nobody else."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.customer import QUICK, Mix
from tests.chaos.oracle import Touch
from tests.support.poll import eventually
from yadtq.broker.tail import read_recent
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.customer import Customer, Job
    from tests.chaos.fleet import Fleet
    from tests.chaos.world import World

#: Kinds of `tests.chaos.app`'s poison that end a process by themselves, and are proven guilty by one death alone.
PROVABLE = ("exit", "segfault", "abort", "stack")
#: What may come from outside: three deaths of workers make a suspect.
DOUBTFUL = ("kill", "exit-0")
BATCH = 500
#: Most of it is the start of children: eight for each poison task, at first in groups and then alone.
WORK_S = 1_800
KILL_EVERY_S = 1.2
SPREAD = (50, 200)


class Killed(NamedTuple):
    """What a series of kills did."""

    kills: int
    failed: int
    tasks: int
    executions: int


async def kill_at_random(world: World, fleet: Fleet, customer: Customer, kills: int, *, seconds: float) -> Killed:
    """SIGKILL to workers drawn by the world's seed, at random moments, over `seconds`; returns when all has ended."""
    rng = random.Random(f"kills/{world.seed}")
    await world.watched()
    customer.start_load(Mix({"sleep": 1}, sleep_ms=(100, 5_000)), 10)
    await world.working(20)
    begun = world.pace.now()
    moments = sorted(rng.uniform(0, seconds) for _ in range(kills))
    for moment in moments:
        await world.pace.until(begun + moment)
        await eventually(fleet.workers, timeout=30, what="a living worker")
        victim = rng.choice(fleet.workers())
        at = world.pace.now()
        os.kill(victim.pid, signal.SIGKILL)
        world.touches.append(Touch("kill-worker", at, at, frozenset({victim.id})))
    await world.settled(180)
    failed = sum(seen.state == "FAILED" for seen in world.states.observations)
    return Killed(kills, failed, len(customer.acknowledged), len(world.ledger.executions()))


class Poisoned(NamedTuple):
    """letters: dead letters by kind. deaths: of workers. succeeded: good tasks with the right answer."""

    letters: Counter[str]
    deaths: int
    succeeded: int
    good: int

    def missing(self, kinds: Sequence[str], each: int) -> list[str]:
        """Kinds with another number of dead letters."""
        return [f"{kind}: {self.letters[kind]}" for kind in kinds if self.letters[kind] != each]


async def poison_among_good(
    world: World, fleet: Fleet, customer: Customer, kinds: Sequence[str], *, each: int, good: int
) -> Poisoned:
    """Submits `each` poison tasks of every kind evenly among the good ones; returns when all has ended."""
    poison = customer.app.registry.get("poison")
    ids = [f"{kind}-{n}" for n in range(each) for kind in kinds]
    jobs: list[Job] = []
    for batch in range(-(-good // BATCH)):
        share = slice(batch * len(ids) * BATCH // good, (batch + 1) * len(ids) * BATCH // good)
        for task_id in ids[share]:
            await poison.options(task_id=task_id).submit(task_id.rpartition("-")[0])
        jobs += await customer.submit(Mix({"quick": 4, "sleep": 1}, sleep_ms=SPREAD), min(BATCH, good - len(jobs)))
    await world.final(jobs, timeout=WORK_S)

    async def all_ended() -> bool:
        await world.states.look_at([task_id for task_id in ids if task_id not in world.states.final])
        return world.states.final.issuperset(ids)

    await eventually(all_ended, timeout=WORK_S, interval=0.2, what="the end of all poison")
    await world.settled()
    await world.final(await customer.submit(QUICK, 20))  # the fleet works on
    settings = customer.app.settings
    letters = await read_recent(settings, TopicNames(world.app).dead, 3_600, 10_000)
    by_task = {dict(letter.headers)["yadtq-task-id"].decode() for letter in letters}
    right = sum(customer.answers.get(job.id) == job.expected for job in jobs)
    found = Counter(task_id.rpartition("-")[0] for task_id in by_task)
    return Poisoned(found, fleet.count("died"), right, len(jobs))
