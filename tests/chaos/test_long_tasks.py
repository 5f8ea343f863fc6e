"""A task that runs very long never stalls its partition, and the worker's memory stays what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.chaos.customer import QUICK, Mix
from tests.support.poll import eventually

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld

#: So small that a few hundred tasks exhaust it several times over.
SETTINGS = {"YADTQ_WORKER_SPAN": "50", "YADTQ_WORKER_WINDOW": "60", "YADTQ_SESSION_TIMEOUT_S": "6"}


@pytest.mark.slow
async def test_stragglers_are_moved_on_and_run_once(make_world: MakeWorld) -> None:
    world = await make_world(settings=SETTINGS)
    fleet, customer = await world.fleet(workers=1), await world.customer()
    stragglers = [customer.next_job(Mix({"sleep": 1}, sleep_ms=(9_000, 9_000))) for _ in range(4)]
    for job in stragglers:
        customer.send(job)
    await world.executing([job.id for job in stragglers])
    (worker,) = fleet.workers()
    begun = world.pace.now()
    peak = psutil.Process(worker.pid).memory_info().rss
    for _ in range(6):
        jobs = await customer.submit(QUICK, 200)
        await world.final(jobs)
        peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
    # 300 tasks for each partition, whose span is 50: they went by while the stragglers ran.
    assert world.pace.now() - begun < 9
    assert {run.task_id for run in world.running_on(worker)} == {job.id for job in stragglers}
    await eventually(lambda: "moved to the tail" in fleet.text(), what="a straggler moved to the tail")
    await world.settled()
    assert world.repeated() == {}
    assert peak < 150e6
    ends = world.log.ends()
    await eventually(lambda: world.log.committed() == ends, what="all offsets committed")
    assert await world.verdict() == []
