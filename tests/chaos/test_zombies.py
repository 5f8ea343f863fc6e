"""A worker that is silent beyond its lease, and then goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import Mix
from tests.chaos.faults import FreezeWorker
from tests.chaos.oracle import Touch
from tests.support.poll import eventually

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld
    from tests.chaos.world import World


@pytest.mark.slow
async def test_a_frozen_workers_tasks_move_and_its_own_finish_is_refused(world: World) -> None:
    """Sync tasks: nothing can end them, so the zombie does finish what it ran, and must be refused."""
    fleet, customer = await world.fleet(workers=2), await world.customer()
    jobs = await customer.submit(Mix({"in_thread": 1}), 1)
    await world.final(jobs)
    slow = [job._replace(arguments=(job.arguments[0], 2_500)) for job in (customer.next_job(THREADS) for _ in range(8))]
    for job in slow:
        customer.send(job)
    await world.executing([job.id for job in slow])
    victim = max(fleet.workers(), key=lambda ref: len(world.running_on(ref)))
    running = {run.task_id for run in world.running_on(victim)}
    since = world.pace.now()
    os.kill(victim.pid, signal.SIGSTOP)
    await world.executing(sorted(running), attempt=2, timeout=30)
    await world.final([job for job in slow if job.id in running])
    world.touches.append(Touch("freeze-worker", since, world.pace.now(), frozenset({victim.id})))
    os.kill(victim.pid, signal.SIGCONT)
    await eventually(
        lambda: (
            {run.task_id for run in world.ledger.executions() if run.worker == victim.id and run.ended_at} >= running
        ),
        what="the zombie to finish what it ran",
    )
    await eventually(lambda: fleet.text().count("was fenced") + fleet.text().count("has lost its lease") > 0)
    await world.settled()
    assert world.repeated().keys() == running
    again = await customer.submit(Mix({"quick": 1}), 40)
    await world.final(again)
    assert victim in fleet.workers(), "the zombie should work on, not be replaced"
    assert await world.verdict() == []


THREADS = Mix({"in_thread": 1})


@pytest.mark.slow
async def test_a_freeze_within_the_lease_costs_nothing(make_world: MakeWorld) -> None:
    world = await make_world(settings={"YADTQ_SUPERVISOR_SILENCE_S": "60"})
    fleet, customer = await world.fleet(workers=2), await world.customer()
    await world.watched()
    customer.start_load(Mix(), per_second=40)
    for which in range(2):
        fault = FreezeWorker(fleet, which, lasts_s=2.0)
        await fault.inject(world)
        await world.pace.pause(fault.lasts_s)
        await fault.heal(world)
        await world.probe(customer)
    await world.settled()
    assert world.repeated() == {}
    assert await world.verdict() == []
