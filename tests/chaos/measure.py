"""The figures of docs/reliability.md: taken on the settings of production, each in a world of its own."""

from __future__ import annotations

import os
import signal
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import psutil

from tests.chaos import blame
from tests.chaos.customer import QUICK, Mix
from tests.chaos.faults import (
    Cut,
    EmptyRedis,
    Fault,
    FreezeServer,
    KillSupervisor,
    KillWorker,
    RestartServer,
    RollingRestart,
    Storm,
)
from tests.chaos.oracle import Touch
from tests.chaos.world import World
from tests.support.poll import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from tests.support.stacks import StackName

#: Production's, but for what would hide what is measured: a frozen worker must wake up, a killed one must come back.
SETTINGS = {
    "YADTQ_SUPERVISOR_SILENCE_S": "60",
    "YADTQ_SUPERVISOR_CRASH_BUDGET": "1000",
    "YADTQ_SUPERVISOR_BACKOFF_S": "0",
}


LONE_ROUNDS = 3
PER_SECOND = 40


class Row(NamedTuple):
    """One line of the table."""

    what: str
    wanted: str
    seen: str
    met: bool


Setup = tuple["StackName", "Path", int]


async def kills(stack: StackName, folder: Path, rounds: int) -> list[Row]:
    async with World(folder, stack, settings=SETTINGS) as world:
        fleet, customer = await world.fleet(workers=3), await world.customer()
        done = await customer.submit(QUICK, 100)
        await world.final(done)
        gaps, victims = [], set()
        rebalances = 0
        for _ in range(rounds):
            jobs = await customer.submit(Mix({"sleep": 1}, sleep_ms=(3_000, 3_000)), 12)
            await world.executing([job.id for job in jobs])
            worker = max(fleet.workers(), key=lambda ref: len(world.running_on(ref)))
            running = {run.task_id for run in world.running_on(worker)}
            victims |= running
            seen = fleet.text().count("giving up partitions")
            fault = KillWorker(fleet, fleet.workers().index(worker))
            at = world.pace.now()
            await fault.inject(world)
            await world.executing(sorted(running), attempt=2)
            by_task = world.ledger.by_task()
            gaps.append(max(by_task[task_id][-1].started_at for task_id in running) - at)
            await world.final(jobs)
            await fault.heal(world)
            rebalances += fleet.text().count("giving up partitions") - seen
        await world.settled()
        extra = len(world.repeated().keys() - victims)
        verdict = await world.verdict()
        median = statistics.median(gaps)
        return [
            Row(
                f"`kill -9` of a supervised worker, {rounds} times: its tasks are executing again",
                "≤ 1 s (median)",
                f"{median:.2f} s (median), {max(gaps):.2f} s at most",
                median <= 1,
            ),
            Row("… rebalances seen by the other workers", "0", str(rebalances), rebalances == 0),
            Row("… second executions of tasks that it had finished", "0", str(extra), extra == 0),
            _verdict("…", verdict),
        ]


async def zombie(stack: StackName, folder: Path, _: int) -> list[Row]:
    async with World(folder, stack, settings=SETTINGS) as world:
        fleet, customer = await world.fleet(workers=2), await world.customer()
        mix = Mix({"in_thread": 1})
        jobs = [job._replace(arguments=(job.arguments[0], 4_000)) for job in (customer.next_job(mix) for _ in range(8))]
        for job in jobs:
            customer.send(job)
        await world.executing([job.id for job in jobs])
        worker = max(fleet.workers(), key=lambda ref: len(world.running_on(ref)))
        running = {run.task_id for run in world.running_on(worker)}
        since = world.pace.now()
        os.kill(worker.pid, signal.SIGSTOP)
        await world.executing(sorted(running), attempt=2, timeout=40)
        starts = [run.started_at for run in world.ledger.executions() if run.task_id in running and run.attempt == 2]
        await world.final([job for job in jobs if job.id in running])
        world.touches.append(Touch("freeze-worker", since, world.pace.now(), frozenset({worker.id})))
        os.kill(worker.pid, signal.SIGCONT)

        def refused() -> bool:
            text = fleet.text()
            return text.count("was fenced") + text.count("has lost its lease") >= len(running)

        await eventually(refused, timeout=30, what="the zombie to be fenced")
        await world.settled()
        await world.final(await customer.submit(QUICK, 40))
        alive = worker in fleet.workers()
        verdict = await world.verdict()
        return [
            Row(
                f"SIGSTOP past the lease: {len(running)} tasks run elsewhere (lease and session timeout are 7 s)",
                "",
                f"after {max(starts) - since:.1f} s",
                True,
            ),
            Row("SIGCONT: the zombie's outcomes are refused, it fences itself and works on", "all", "all", alive),
            _verdict("…", verdict),
        ]


async def lone_kills(stack: StackName, folder: Path, _: int) -> list[Row]:
    """No supervisor: the group's session and the lease have to end."""
    gaps = []
    async with World(folder, stack, settings=SETTINGS) as world:
        customer = await world.customer()
        await world.worker("stays")
        for number in range(LONE_ROUNDS):
            worker = await world.worker(f"dies-{number}")
            assert worker.ref is not None
            jobs = await customer.submit(Mix({"sleep": 1}, sleep_ms=(5_000, 5_000)), 12)
            await world.executing([job.id for job in jobs])
            running = {run.task_id for run in world.running_on(worker.ref)}
            at = world.pace.now()
            await worker.kill()
            world.touches.append(Touch("kill-worker", at, at, frozenset({worker.ref.id})))
            await world.executing(sorted(running), attempt=2, timeout=60)
            by_task = world.ledger.by_task()
            gaps.append(max(by_task[task_id][-1].started_at for task_id in running) - at)
            await world.final(jobs)
        await world.settled()
        verdict = await world.verdict()
    seen = f"{statistics.median(gaps):.1f} s (median of {len(gaps)}), {max(gaps):.1f} s at most"
    what = "`kill -9` of a worker without a supervisor: its tasks are executing again"
    return [Row(what, "≤ lease, session and 6 s", seen, max(gaps) < 20), _verdict("…", verdict)]


async def supervisor_kill(stack: StackName, folder: Path, _: int) -> list[Row]:
    async with World(folder, stack, settings=SETTINGS) as world:
        fleet, customer = await world.fleet(workers=3), await world.customer()
        await world.watched()
        customer.start_load(Mix(), PER_SECOND)
        await world.working(100)
        begun = world.pace.now()
        fault = KillSupervisor(fleet)
        await fault.inject(world)
        await fault.heal(world)
        took = world.pace.now() - begun
        back = await world.probe(customer)
        await world.settled()
        again, verdict = len(world.repeated()), await world.verdict()
    seen = f"{again}; workers drained and new ones ready after {took:.1f} s, fresh tasks done {back:.2f} s later"
    what = "`kill -9` of a supervisor, and a new one in its place: second executions"
    return [Row(what, "0", seen, not again), _verdict("…", verdict)]


PLANS: dict[str, tuple[str, Callable[[], Fault]]] = {
    "kafka-stop": ("Kafka, clean restart", lambda: RestartServer("kafka", 0.5, clean=True)),
    "kafka-kill": ("Kafka, SIGKILL and restart", lambda: RestartServer("kafka", 0.5)),
    "kafka-freeze": ("Kafka, SIGSTOP for 30 s", lambda: FreezeServer("kafka", 30.0)),
    "redis-kill": ("Redis, SIGKILL and restart with its data", lambda: RestartServer("redis", 1.0)),
    "redis-empty": ("Redis, restart without its data", lambda: EmptyRedis(restart=True)),
    "redis-freeze": ("Redis, SIGSTOP for 20 s", lambda: FreezeServer("redis", 20.0)),
    "kafka-cut": ("half of the workers cut off from Kafka for 20 s", lambda: Cut("a", "kafka", "black-hole", 20.0)),
    "redis-cut": ("half of the workers cut off from Redis for 20 s", lambda: Cut("a", "redis", "black-hole", 20.0)),
}


def _throughput_back(world: World, healed: float) -> float:
    """Seconds from the heal to the first second in which as many tasks ended as are submitted in one."""
    ended = sorted(run.ended_at for run in world.ledger.executions() if run.ended_at and run.ended_at >= healed)
    for first, last in zip(ended, ended[PER_SECOND - 1 :], strict=False):
        if last < first + 1:
            return first - healed
    return float("inf")


def outage(name: str) -> Callable[[StackName, Path, int], Coroutine[Any, Any, list[Row]]]:
    """Under load; half of the tasks sleep up to 2.5 s."""
    what, make = PLANS[name]

    async def take(stack: StackName, folder: Path, _: int) -> list[Row]:
        async with World(folder, stack, settings=SETTINGS) as world:
            for party in ("a", "b"):
                await world.fleet(party, workers=1)
            customer = await world.customer()
            await world.watched()
            customer.start_load(Mix(), PER_SECOND)
            await world.working(150)
            before, fault = world.spawned(), make()
            await fault.inject(world)
            await world.pace.pause(fault.lasts_s)
            await fault.heal(world)
            healed = world.pace.now()
            fresh = await world.probe(customer)
            await world.pace.pause(3.0)  # of load, to see the throughput by
            await world.settled()
            back = _throughput_back(world, healed)
            restarted = world.spawned() - before
            failed = sum(seen.state == "FAILED" for seen in world.states.observations)
            again, lost = len(world.repeated()), len(world.acknowledged() - world.states.final)
            verdict = await world.verdict()
        seen = (
            f"{lost} lost, {failed} FAILED, {restarted} restarted, {again} of {len(customer.acknowledged)} run twice, "
            f"throughput back {back:.2f} s after the server, the backlog worked off after {fresh:.1f} s"
        )
        met = not (lost or failed or restarted or verdict) and back <= 10
        return [
            Row(what, "0 lost, 0 FAILED, no process restarted, ≤ 10 s", seen, met),
            *([_verdict("…", verdict)] if verdict else []),
        ]

    return take


async def deploys(stack: StackName, folder: Path, _: int) -> list[Row]:
    async with World(folder, stack, settings=SETTINGS) as world:
        fleet, customer = await world.fleet(workers=3), await world.customer()
        await world.watched()
        customer.start_load(Mix(), PER_SECOND)
        await world.working(100)
        begun = world.pace.now()
        fault = RollingRestart(fleet)
        await fault.inject(world)
        await fault.heal(world)
        took = world.pace.now() - begun
        await world.settled()
        again = len(world.repeated())
        verdict = await world.verdict()
        return [
            Row(
                "Rolling restart of 3 workers under load: second executions",
                "0",
                f"{again} of {len(customer.acknowledged)} tasks ({took:.1f} s)",
                not again and not verdict,
            ),
            _verdict("…", verdict),
        ]


async def storm(stack: StackName, folder: Path, _: int) -> list[Row]:
    async with World(folder, stack, settings=SETTINGS) as world:
        _fleet, customer = await world.fleet(workers=2), await world.customer()
        long = [customer.next_job(Mix({"sleep": 1}, sleep_ms=(20_000, 20_000))) for _ in range(4)]
        for job in long:
            customer.send(job)
        await world.watched()
        customer.start_load(Mix({"quick": 2, "sleep": 3}, sleep_ms=(50, 5_000)), 20)
        await world.working(50)
        fault = Storm("a", 120.0)
        await fault.inject(world)
        done = [len(world.states.final)]
        while world.pace.now() - fault.since < fault.lasts_s:
            await world.pace.pause(2.0)
            done.append(len(world.states.final))
        await fault.heal(world)
        await world.settled()
        again = len(world.repeated())
        verdict = await world.verdict()
        slowest = min(later - earlier for earlier, later in pairwise(done)) / 2
        return [
            Row(
                f"Rebalance storm, 2 minutes, {fault.rebalances} joins and leaves, tasks of 50 ms to 20 s: "
                "second executions",
                "0",
                f"{again} of {len(customer.acknowledged)} tasks",
                not again,
            ),
            Row("… throughput in the slowest two seconds (20/s are submitted)", "> 0", f"{slowest:.1f}/s", slowest > 0),
            _verdict("…", verdict),
        ]


async def stragglers(stack: StackName, folder: Path, _: int) -> list[Row]:
    settings = {**SETTINGS, "YADTQ_WORKER_SPAN": "100", "YADTQ_WORKER_WINDOW": "200"}
    async with World(folder, stack, settings=settings) as world:
        fleet, customer = await world.fleet(workers=1), await world.customer()
        long = [customer.next_job(Mix({"sleep": 1}, sleep_ms=(40_000, 40_000))) for _ in range(4)]
        for job in long:
            customer.send(job)
        await world.executing([job.id for job in long])
        (worker,) = fleet.workers()
        first = peak = psutil.Process(worker.pid).memory_info().rss / 1e6
        begun, passed = world.pace.now(), 0
        while world.pace.now() - begun < 30:
            await world.final(await customer.submit(QUICK, 400))
            passed += 400
            peak = max(peak, psutil.Process(worker.pid).memory_info().rss / 1e6)
        moved = fleet.text().count("moved to the tail")
        await world.settled()
        again = len(world.repeated())
        verdict = await world.verdict()
        return [
            Row(
                "Four tasks of 40 s, span 100: tasks of the same partitions that were done meanwhile",
                "> 400",
                f"{passed} ({moved} moves to the tail, {again} run again)",
                passed > 400 and not again,
            ),
            Row("… memory of the worker", "bounded", f"{first:.0f} MB, {peak:.0f} MB at most", peak < first + 30),
            _verdict("…", verdict),
        ]


async def random_kills(stack: StackName, folder: Path, rounds: int) -> list[Row]:
    async with World(folder, stack, settings=SETTINGS) as world:
        fleet, customer = await world.fleet(workers=4), await world.customer()
        seconds = blame.KILL_EVERY_S * rounds
        done = await blame.kill_at_random(world, fleet, customer, rounds, seconds=seconds)
        what = f"`kill -9` of a supervised worker at {rounds} random moments in {seconds:.0f} s, tasks of 0.1 to 5 s"
        seen = f"{done.failed} of {done.tasks} tasks, {done.executions} executions"
        return [
            Row(f"{what}: tasks FAILED", "0", seen, not done.failed),
            _verdict("…", await world.verdict()),
        ]


def poison(kinds: tuple[str, ...], most: int) -> Callable[[StackName, Path, int], Coroutine[Any, Any, list[Row]]]:
    """most: deaths of workers for each."""

    async def take(stack: StackName, folder: Path, _: int) -> list[Row]:
        async with World(folder, stack, settings=SETTINGS) as world:
            fleet, customer = await world.fleet(workers=4), await world.customer()
            done = await blame.poison_among_good(world, fleet, customer, kinds, each=10, good=10_000)
        wrong, all_deaths = done.missing(kinds, 10), 10 * len(kinds) * most
        what = f"Ten poison tasks of each kind ({', '.join(kinds)}) among {done.good} good ones: dead letters"
        return [
            Row(what, "10 of each", ", ".join(wrong) or "10 of each", not wrong),
            Row("… good tasks done", str(done.good), str(done.succeeded), done.succeeded == done.good),
            Row("… deaths of workers", f"≤ {all_deaths}", str(done.deaths), done.deaths <= all_deaths),
        ]

    return take


MEASURES: dict[str, Callable[[StackName, Path, int], Coroutine[Any, Any, list[Row]]]] = {
    "kills": kills,
    "lone-kills": lone_kills,
    "supervisor-kill": supervisor_kill,
    "zombie": zombie,
    **{name: outage(name) for name in PLANS},
    "deploys": deploys,
    "storm": storm,
    "stragglers": stragglers,
    "random-kills": random_kills,
    "poison": poison(blame.PROVABLE, 1),
    "poison-doubtful": poison(blame.DOUBTFUL, 3),
}


def _verdict(what: str, violations: list[str]) -> Row:
    return Row(f"{what} violations of I1 to I7", "0", "; ".join(violations[:3]) or "0", not violations)


async def measure(names: list[str], stack: StackName, folder: Path, *, rounds: int) -> int:
    """Prints the table; returns 1 if something was not met."""
    rows: list[Row] = []
    print(f"| {stack}: what | wanted | seen | |\n|---|---|---|---|", flush=True)
    for name in names:
        for row in await MEASURES[name](stack, folder / name, rounds):
            rows.append(row)
            print(f"| {row.what} | {row.wanted} | {row.seen} | {'yes' if row.met else '**no**'} |", flush=True)
    return 0 if all(row.met for row in rows) else 1
