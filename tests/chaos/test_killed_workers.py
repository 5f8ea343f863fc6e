"""SIGKILL of supervised workers, again and again under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import LIGHT, Mix
from tests.chaos.faults import KillWorker

if TYPE_CHECKING:
    from tests.chaos.world import World

SLOW = Mix({"sleep": 1}, sleep_ms=(2_000, 2_000))


async def test_a_killed_workers_tasks_run_again_and_those_it_had_finished_do_not(world: World) -> None:
    fleet, customer = await world.fleet(workers=3), await world.customer()
    done = await customer.submit(Mix({"quick": 1}), 60)
    await world.final(done)
    jobs = await customer.submit(SLOW, 12)
    await world.executing([job.id for job in jobs])
    victim = max(fleet.workers(), key=lambda ref: len(world.running_on(ref)))
    running = {run.task_id for run in world.running_on(victim)}
    assert running
    fault = KillWorker(fleet, fleet.workers().index(victim))
    await fault.inject(world)
    await world.executing(sorted(running), attempt=2, timeout=10)
    await world.settled()
    assert world.repeated().keys() == running
    assert fleet.text().count("giving up partitions") == fleet.text()[: _first(fleet.text(), "event=died")].count(
        "giving up partitions"
    ), "another worker saw a rebalance"
    assert await world.verdict() == []


def _first(text: str, word: str) -> int:
    return text.index(word)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_kills_one_after_another_under_load_lose_nothing(world: World) -> None:
    fleet, customer = await world.fleet(workers=3), await world.customer()
    await world.watched()
    customer.start_load(LIGHT, per_second=60)
    for which in (0, 1, 2, 0, 1):
        await world.working(50)
        fault = KillWorker(fleet, which)
        await fault.inject(world)
        await fault.heal(world)
    await world.settled()
    assert await world.verdict() == []
