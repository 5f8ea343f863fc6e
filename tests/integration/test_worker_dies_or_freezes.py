"""A worker process is killed or frozen while its tasks run: others run them again, and the old one's words do not count."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_app
from tests.support.ledger import LedgerReader
from tests.support.poll import eventually
from tests.support.worker_process import SHORT, worker_process
from yadtq.store.redis import RedisStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stacks import Servers
    from yadtq import Yadtq

LEASE_AND_SESSION_S = SHORT["lease_s"] + SHORT["session_timeout_s"]


@pytest.fixture
def app(stack: Servers, app_name: str) -> Yadtq:
    """The client's side: it submits by name."""
    return make_app(stack, app_name, num_partitions=4, **SHORT)


@pytest.fixture
def ledger(tmp_path: Path) -> LedgerReader:
    return LedgerReader(tmp_path / "ledger")


async def test_the_tasks_of_a_killed_worker_run_again_within_lease_and_session(
    stack: Servers, app_name: str, app: Yadtq, ledger: LedgerReader
) -> None:
    async with (
        app.client() as client,
        worker_process(stack.kafka, stack.redis, app_name, ledger.path) as victim,
        worker_process(stack.kafka, stack.redis, app_name, ledger.path) as survivor,
    ):
        # The first attempt would take an hour, whoever has it: only a task that runs again can end.
        handles = await client.submit_many("work", [{"name": f"t{n}", "seconds": 0.01} for n in range(40)])
        stuck = await client.submit_many("work", [{"name": f"s{n}", "seconds": 1, "first_s": 15} for n in range(20)])
        await eventually(lambda: sum(len(runs) for runs in ledger.by_task().values()) >= 60)
        with_victim = {run.task_id for run in ledger.executions() if run.worker == victim.id and run.ended_at is None}
        assert 0 < len(with_victim) < 20, "both have some"
        victim.send(signal.SIGKILL)
        died = time.monotonic()
        await victim.ended()
        for handle in stuck:
            if handle.id in with_victim:
                name, attempt, worker = (await handle.result(timeout=30)).split()
                assert (attempt, worker) == ("2", survivor.id), name
        assert time.monotonic() - died < LEASE_AND_SESSION_S + 6
        for handle in handles + stuck:
            await handle.result(timeout=30)
        runs = ledger.by_task()
        assert {len(runs[each]) for each in with_victim} == {2}
        assert {len(runs[each]) for each in runs.keys() - with_victim} == {1}, "nobody else's ran again"


async def test_a_death_certificate_makes_it_immediate(
    stack: Servers, app_name: str, app: Yadtq, ledger: LedgerReader
) -> None:
    store = RedisStore(app.settings, app_name, random.Random(0))
    long_lease = {"lease_s": 60.0}
    async with app.client() as client:
        async with worker_process(stack.kafka, stack.redis, app_name, ledger.path, **long_lease) as victim:
            handles = await client.submit_many("work", [{"name": f"t{n}", "first_s": 600} for n in range(5)])
            await eventually(lambda: len(ledger.executions()) == 5)
            dead = victim.id
            victim.send(signal.SIGKILL)
            await victim.ended()
        async with worker_process(stack.kafka, stack.redis, app_name, ledger.path, **long_lease) as successor:
            await eventually(lambda: "assigned partitions" in successor.log(), timeout=20)
            await store.deaths.bury(dead)
            buried = time.monotonic()
            for handle in handles:
                assert (await handle.result(timeout=20)).split()[1:] == ["2", successor.id]
            assert time.monotonic() - buried < 8, "it waited for a lease of a minute"
    await store.aclose()


async def test_a_frozen_worker_wakes_up_fenced_and_goes_on_working(
    stack: Servers, app_name: str, app: Yadtq, ledger: LedgerReader
) -> None:
    async with (
        app.client() as client,
        worker_process(stack.kafka, stack.redis, app_name, ledger.path) as zombie,
    ):
        # Attempt 1 ends in the moment in which it is thawed: its finish and its renewal race.
        calls = [{"name": f"t{n}", "first_s": 1.5 if n % 2 else 60} for n in range(20)]
        handles = await client.submit_many("work", calls)
        await eventually(lambda: len(ledger.executions()) == 20)
        await zombie.freeze()
        async with worker_process(stack.kafka, stack.redis, app_name, ledger.path) as other:
            for handle in handles:
                assert (await handle.result(timeout=40)).split()[1:] == ["2", other.id]
            zombie.send(signal.SIGCONT)
            await eventually(lambda: "fenced" in zombie.log(), timeout=10, what="its finish to be refused")
            await eventually(lambda: "lost its lease" in zombie.log(), timeout=10, what="the long ones to be stopped")
            for handle in handles:
                assert (await handle.result(timeout=5)).split()[1:] == ["2", other.id], "nothing was overwritten"

            async def works_again() -> bool:
                more = await client.submit_many("work", [{"name": f"more{n}"} for n in range(40)])
                results = [(await handle.result(timeout=30)).split() for handle in more]
                assert {attempt for _, attempt, _ in results} == {"1"}
                return {worker for _, _, worker in results} == {zombie.id, other.id}

            await eventually(works_again, timeout=40, interval=0.5, what="both workers to share the work")
        assert zombie.process.returncode is None


@pytest.mark.parametrize(("task", "arguments"), [("sync_sleep", {"seconds": 40}), ("stubborn", {})])
async def test_a_task_that_can_not_be_ended_does_not_keep_the_process(
    stack: Servers, app_name: str, app: Yadtq, ledger: LedgerReader, task: str, arguments: dict[str, float]
) -> None:
    async with (
        app.client() as client,
        worker_process(stack.kafka, stack.redis, app_name, ledger.path, worker_grace_s=0.2) as worker,
    ):
        await client.submit_many(task, [arguments])
        await eventually(lambda: ledger.entries())
        worker.send(signal.SIGTERM)
        assert await worker.ended(timeout=25) == 0
        assert "cut off" in worker.log()


async def test_signals_drain_and_then_break_off(
    stack: Servers, app_name: str, app: Yadtq, ledger: LedgerReader
) -> None:
    async with app.client() as client:
        async with worker_process(stack.kafka, stack.redis, app_name, ledger.path) as worker:
            short = await client.submit_many("work", [{"name": "a", "seconds": 1}])
            await eventually(lambda: ledger.entries())
            worker.send(signal.SIGTERM)
            assert await worker.ended() == 0
            assert (await short[0].result(timeout=5)).split()[1] == "1"
        async with worker_process(stack.kafka, stack.redis, app_name, ledger.path) as worker:
            (long,) = await client.submit_many("work", [{"name": "b", "first_s": 600}])
            await eventually(lambda: len(ledger.executions()) == 2)
            worker.send(signal.SIGINT)
            await eventually(lambda: "draining" in worker.log())
            worker.send(signal.SIGINT)
            assert await worker.ended() == 0
        async with worker_process(stack.kafka, stack.redis, app_name, ledger.path):
            assert (await long.result(timeout=20)).split()[1] == "2"
