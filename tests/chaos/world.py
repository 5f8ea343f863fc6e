"""One chaos run: servers with a proxy for every party, fleets of workers, customers, and those who look on.

async with World(folder, "kafka") as world:
    fleet = await world.fleet("a")
    customer = await world.customer()
    jobs = await customer.submit(QUICK, 100)
    await world.settled()
    assert await world.verdict() == []
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.chaos.app import make_app
from tests.chaos.customer import QUICK, Customer
from tests.chaos.fleet import Fleet, Where, Worker
from tests.chaos.observer import LogWatch, StateWatch, sample_commits, watch
from tests.chaos.oracle import Evidence, judge
from tests.chaos.servers import PARTIES, servers
from tests.support.chaos_pace import Pace
from tests.support.invariants import Census
from tests.support.ledger import LedgerReader, SubmitLog
from tests.support.poll import eventually
from yadtq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.chaos.customer import Job
    from tests.chaos.fleet import WorkerRef
    from tests.chaos.oracle import Touch
    from tests.support.ledger import Execution
    from tests.support.stacks import StackName

#: Shorter than the defaults, so that scenarios of leases and sessions take seconds. `measure` takes the defaults.
QUICK_SETTINGS = {
    "YADTQ_LEASE_S": "3",
    "YADTQ_HEARTBEAT_S": "0.5",
    "YADTQ_SESSION_TIMEOUT_S": "6",
    "YADTQ_REDIS_TIMEOUT_S": "2",
    "YADTQ_KAFKA_REQUEST_TIMEOUT_S": "5",
    "YADTQ_SUBMIT_TIMEOUT_S": "6",
    # A frozen worker shall wake up a zombie, not be killed for its silence.
    "YADTQ_SUPERVISOR_SILENCE_S": "60",
}
PROBES = 8


class World:
    """Open with `async with`; everything in it ends with it."""

    def __init__(
        self,
        folder: Path,
        stack: StackName,
        *,
        settings: Mapping[str, str] | None = None,
        parties: Sequence[str] = PARTIES,
        seed: int = 0,
        pace: Pace | None = None,
    ) -> None:
        self.folder = folder
        self.stack = stack
        self.seed = seed
        self.app = f"chaos-{uuid.uuid4().hex[:8]}"
        self.settings = dict(QUICK_SETTINGS if settings is None else settings)
        self.pace = pace or Pace()
        self.servers = servers(stack, folder, parties=parties, seed=seed)
        self.ledger = LedgerReader(folder / "ledger")
        self.submits = SubmitLog(folder / "submits")
        self.fleets: dict[str, Fleet] = {}
        self.workers: dict[str, Worker] = {}
        self.customers: list[Customer] = []
        #: What the faults have touched, and moments at which Redis lost its data: from faults to the oracle.
        self.touches: list[Touch] = []
        self.losses: list[float] = []
        #: Since when Redis can't be reached, by the kind of the fault.
        self.redis_away: dict[str, float] = {}
        self._cleanup = AsyncExitStack()

    @property
    def lease_s(self) -> float:
        return float(self.settings.get("YADTQ_LEASE_S", Settings.model_fields["lease_s"].default))

    async def __aenter__(self) -> World:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger.path.touch()
        try:
            await self._cleanup.enter_async_context(self.servers)
            self._cleanup.push_async_callback(self._end_processes)
            self.states = StateWatch(self.servers.direct_redis, self.app)
            self._cleanup.push_async_callback(self.states.close)
            self.log = LogWatch(self.servers.direct_kafka, self.app)
            self._cleanup.callback(self.log.close)
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._cleanup.aclose()

    async def _end_processes(self) -> None:
        await self.servers.heal_network()
        for party in (*self.fleets.values(), *self.workers.values()):
            if party.running:
                party.kill_all()
                await party.ended()
        await eventually(
            lambda: not any(fleet.leftovers() for fleet in self.fleets.values()), timeout=20, what="the end of workers"
        )

    # Parties

    def where(self, party: str, **settings: str) -> Where:
        """What a process of this party is told."""
        environment = {**self.settings, **settings}
        kafka, redis = self.servers.kafka_for(party), self.servers.redis_for(party)
        return Where(self.app, kafka, redis, self.ledger.path, self.folder, environment)

    async def fleet(self, party: str = "a", *, workers: int = 2, concurrency: int = 20, **settings: str) -> Fleet:
        """A supervisor whose workers all run."""
        fleet = Fleet(f"fleet-{party}", self.where(party, **settings), workers=workers, concurrency=concurrency)
        self.fleets[party] = fleet
        await fleet.start()
        return fleet

    async def worker(self, name: str, party: str = "a", *, concurrency: int = 20, **settings: str) -> Worker:
        """A worker without a supervisor, that runs."""
        worker = Worker(name, self.where(party, **settings), concurrency=concurrency)
        self.workers[name] = worker
        await worker.start()
        return worker

    async def customer(self, name: str = "t") -> Customer:
        settings = {name.removeprefix("YADTQ_").lower(): value for name, value in self.settings.items()}
        own = {key: value for key, value in settings.items() if not key.startswith(("worker_", "supervisor_"))}
        app = make_app(self.app, kafka=self.servers.kafka_for("client"), redis=self.servers.redis_for("client"), **own)
        customer = Customer(name, app, self.submits, self.pace, seed=self.seed)
        await self._cleanup.enter_async_context(customer)
        self.customers.append(customer)
        return customer

    async def watched(self) -> None:
        """Look on in the background, until the end."""
        stopped = asyncio.Event()
        looking = watch(self.states, self.log, self.task_ids, self.pace, stopped)
        task = asyncio.create_task(looking, name="onlookers")

        async def end() -> None:
            stopped.set()
            await task

        self._cleanup.push_async_callback(end)

    # What can be seen

    def task_ids(self) -> list[str]:
        return [task_id for customer in self.customers for task_id in customer.jobs]

    def acknowledged(self) -> set[str]:
        return set().union(*(customer.acknowledged for customer in self.customers))

    def runs(self, task_id: str) -> list[Execution]:
        return [run for run in self.ledger.executions() if run.task_id == task_id]

    def running_on(self, worker: WorkerRef | str) -> list[Execution]:
        """Executions that have begun on this worker and not ended."""
        name = worker if isinstance(worker, str) else worker.id
        return [run for run in self.ledger.executions() if run.worker == name and run.ended_at is None]

    def repeated(self) -> dict[str, int]:
        """Executions beyond the first, by task, for tasks that ask for no retry."""
        jobs = {task_id: job for customer in self.customers for task_id, job in customer.jobs.items()}
        counts = {task_id: len(runs) - 1 for task_id, runs in self.ledger.by_task().items()}
        return {task_id: n for task_id, n in counts.items() if n and not jobs[task_id].retries}

    def worker_refs(self) -> list[WorkerRef]:
        refs = [ref for fleet in self.fleets.values() for ref in fleet.workers()]
        return refs + [worker.ref for worker in self.workers.values() if worker.running and worker.ref]

    def spawned(self) -> int:
        return sum(fleet.spawned() for fleet in self.fleets.values())

    # Waits

    async def executing(self, task_ids: Sequence[str], *, attempt: int = 1, timeout: float = 30) -> None:
        """All have begun in this attempt or a later one."""

        def begun() -> bool:
            runs = {run.task_id for run in self.ledger.executions() if run.attempt >= attempt}
            return runs >= set(task_ids)

        await eventually(begun, timeout=timeout, what=f"attempt {attempt} of {len(task_ids)} tasks")

    async def working(self, count: int, timeout: float = 30) -> None:
        """So many more tasks have ended since this call."""
        before = len(self.states.final)
        await eventually(lambda: len(self.states.final) >= before + count, timeout=timeout, what=f"{count} more tasks")

    async def final(self, jobs: Sequence[Job], timeout: float = 30) -> None:
        """All are final in Redis."""
        wanted = [job.id for job in jobs]

        async def all_final() -> bool:
            await self.states.look_at([task_id for task_id in wanted if task_id not in self.states.final])
            return self.states.final.issuperset(wanted)

        await eventually(all_final, timeout=timeout, interval=0.05, what=f"the end of {len(wanted)} tasks")

    async def settled(self, timeout: float = 60) -> None:
        """Nothing is submitted any more, all that was acknowledged is final, and every answer has come."""
        for customer in self.customers:
            customer.stop_load()

        async def all_ended() -> bool:
            await self.states.look(self.task_ids())
            acknowledged = self.acknowledged()
            return (
                not any(customer.under_way for customer in self.customers)
                and self.states.final >= acknowledged
                and all(customer.all_answered() for customer in self.customers)
            )

        try:
            await eventually(all_ended, timeout=timeout, interval=0.1, what="the end of all tasks")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.laggards()}") from error

    def laggards(self) -> str:
        """The tasks that have not ended, for people who look for the reason."""
        late = sorted(self.acknowledged() - self.states.final)
        silent = [task_id for customer in self.customers for task_id in customer.acknowledged - customer.answers.keys()]
        runs = self.ledger.by_task()
        lines = [f"{len(late)} not final, {len(silent)} without an answer, under way:"]
        lines[0] += str([customer.under_way for customer in self.customers])
        lines += [f"  {task_id}: {runs.get(task_id, 'never begun')}" for task_id in (late or silent)[:10]]
        return "\n".join(lines)

    async def probe(self, customer: Customer, timeout: float = 60) -> float:
        """Seconds until fresh tasks, enough for every partition to have some, are submitted and done."""
        begun = self.pace.now()
        jobs = await asyncio.wait_for(customer.submit(QUICK, PROBES), timeout)
        await self.final(jobs, timeout)
        return max(self.states.final_at[job.id] for job in jobs) - begun

    # The end

    async def drained(self) -> None:
        """End all workers in order."""
        parties = [party for party in (*self.fleets.values(), *self.workers.values()) if party.running]
        statuses = await asyncio.gather(*(party.drain() for party in parties))
        bad = [f"{party.name}: {status}" for party, status in zip(parties, statuses, strict=True) if status]
        assert not bad, f"not drained in order: {bad}"

    async def verdict(self, *, within_s: float = 600) -> list[str]:
        """All violations, in words. Ends the workers first, since what they leave behind is part of it."""
        await self.drained()
        await self.states.look_at(self.task_ids())
        await sample_commits(self.states, self.log, self.task_ids())
        left = [name for fleet in self.fleets.values() for name in fleet.leftovers()]
        logs = [party.text() for party in (*self.fleets.values(), *self.workers.values())]
        evidence = replace(
            self.evidence(),
            after=Census(processes=left, keys=await self.states.keys_without_end()),
            # A dead letter's report quotes the crash of a child, which is no crash of a worker.
            log_lines=[line for text in logs for line in text.splitlines() if "dead letter from" not in line],
        )
        wrong = [line for customer in self.customers for line in customer.wrong_answers(lost=evidence.may_be_lost)]
        return judge(evidence, within_s=within_s) + wrong

    def evidence(self) -> Evidence:
        """What was written down so far."""
        jobs = {task_id: job for customer in self.customers for task_id, job in customer.jobs.items()}
        return Evidence(
            acknowledged=self.submits.acknowledged(),
            executions=self.ledger.executions(),
            observations=self.states.observations,
            commits=self.log.samples,
            touches=self.touches,
            losses=self.losses,
            retries={task_id: job.retries for task_id, job in jobs.items()},
            answered={task_id for customer in self.customers for task_id in customer.answers},
        )
