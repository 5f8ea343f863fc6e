"""A client that submits at a steady pace, whatever happens, and waits for every result.

A submit in doubt is repeated under the same id until it is acknowledged, as the documentation tells users to do.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.app import answer, long_answer
from yadtq.errors import ResultLost, StoreUnavailable, SubmitOverloaded, SubmitUncertain, YadtqError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tests.support.chaos_pace import Pace
    from tests.support.ledger import SubmitLog
    from yadtq.app import Yadtq
    from yadtq.client.client import Client

AGAIN_S = 0.25
#: Submits on their way at once; more would only wait in the client.
MOST_UNDER_WAY = 2_000


class Job(NamedTuple):
    """One submit. retries: how often the task will ask for another attempt."""

    id: str
    task: str
    arguments: tuple[int, ...]
    expected: int | str
    retries: int = 0


@dataclass(frozen=True)
class Mix:
    """What is submitted: weights of the kinds of tasks, and how long the slow ones sleep."""

    weights: Mapping[str, int] = field(
        default_factory=lambda: {"quick": 40, "sleep": 50, "flaky": 4, "large": 4, "in_thread": 2}
    )
    sleep_ms: tuple[int, int] = (50, 2500)

    def job(self, name: str, n: int, rng: random.Random) -> Job:
        (kind,) = rng.choices(list(self.weights), list(self.weights.values()))
        match kind:
            case "sleep":
                return Job(name, kind, (n, rng.randint(*self.sleep_ms)), answer(n))
            case "flaky":
                failures = rng.randint(1, 2)
                return Job(name, kind, (n, failures), answer(n), failures)
            case "large":
                size = rng.choice((80, 5_000, 50_000))
                return Job(name, kind, (n, size), long_answer(n, size))
            case "in_thread":
                return Job(name, kind, (n, rng.randint(10, 200)), answer(n))
            case _:
                return Job(name, "quick", (n,), answer(n))


QUICK = Mix({"quick": 1})
#: Of everything a little, and nothing that a backlog of a few seconds would take long to work off.
LIGHT = Mix(sleep_ms=(50, 800))


class Customer:
    """Submits within `async with`; everything it learns stays in `jobs`, `answers` and the log of submits."""

    def __init__(self, name: str, app: Yadtq, log: SubmitLog, pace: Pace, *, seed: int = 0) -> None:
        self.name = name
        self.app = app
        self._log = log
        self._pace = pace
        self._rng = random.Random(f"{seed}/{name}")
        self._group = asyncio.TaskGroup()
        self._waiting: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self.client: Client
        self.jobs: dict[str, Job] = {}
        self.acknowledged: set[str] = set()
        #: By task id: the value, or the exception that `result()` raised.
        self.answers: dict[str, Any] = {}
        #: Monotonic seconds at which each answer came.
        self.answered_at: dict[str, float] = {}
        self.uncertain = 0
        self.refused = 0
        self.under_way = 0

    async def __aenter__(self) -> Customer:
        self._connected = self.app.client()
        self.client = await self._connected.__aenter__()
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopped.set()
        for task in self._waiting:
            task.cancel()  # whoever still waits has been waited for long enough
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            await self._connected.__aexit__(None, None, None)

    def next_job(self, mix: Mix) -> Job:
        n = len(self.jobs)
        job = mix.job(f"{self.name}-{n}", n, self._rng)
        self.jobs[job.id] = job
        return job

    def send(self, job: Job) -> asyncio.Task[None]:
        """Submit in the background, until acknowledged, and then wait for the result."""
        self.jobs[job.id] = job
        return self._start(self._follow(job), job.id)

    async def submit(self, mix: Mix, count: int = 1) -> list[Job]:
        """Returns when all are acknowledged."""
        jobs = [self.next_job(mix) for _ in range(count)]
        await asyncio.gather(*(self._until_acknowledged(job) for job in jobs))
        for job in jobs:
            self._start(self._answer(job), f"answer-{job.id}")
        return jobs

    async def load(self, mix: Mix, per_second: float) -> None:
        """Until `stop`. While too much is under way it waits, as any sane producer does."""
        due = self._pace.now()
        while not self._stopped.is_set():
            if self.under_way < MOST_UNDER_WAY:
                self.send(self.next_job(mix))
            due = max(due + 1 / per_second, self._pace.now() - 1)  # a second of arrears is made good, no more
            await self._pace.until(due)

    def start_load(self, mix: Mix, per_second: float) -> None:
        self._stopped.clear()
        self._start(self.load(mix, per_second), f"{self.name}-load")

    def stop_load(self) -> None:
        self._stopped.set()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(work, name=name)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    async def _follow(self, job: Job) -> None:
        await self._until_acknowledged(job)
        await self._answer(job)

    async def _until_acknowledged(self, job: Job) -> None:
        self.under_way += 1
        try:
            while not await self._attempt(job):
                await self._pace.pause(AGAIN_S * self._rng.uniform(0.5, 1.5))
        finally:
            self.under_way -= 1

    async def _attempt(self, job: Job) -> bool:
        task = self.app.registry.get(job.task)
        self._log.record(job.id, "sent")
        try:
            await task.options(task_id=job.id).submit(*job.arguments)
        except SubmitUncertain:
            self.uncertain += 1
            self._log.record(job.id, "uncertain")
            return False
        except (StoreUnavailable, SubmitOverloaded):
            self.refused += 1
            self._log.record(job.id, "refused")
            return False
        self._log.record(job.id, "acknowledged")
        self.acknowledged.add(job.id)
        return True

    async def _answer(self, job: Job) -> None:
        answer: object
        while True:
            try:
                answer = await self.client.handle(job.id).result()
            except StoreUnavailable:  # of a large result: the state came, its payload did not
                await self._pace.pause(AGAIN_S)
                continue
            except YadtqError as error:
                answer = error
            break
        self.answers[job.id] = answer
        self.answered_at[job.id] = self._pace.now()

    def all_answered(self) -> bool:
        return self.acknowledged <= self.answers.keys()

    def wrong_answers(self, *, lost: Callable[[str], bool] = lambda _: False) -> list[str]:
        """Answers that are not what the task returns, in words. lost: whether a result may have been lost."""
        return [
            f"answer: {task_id} ({self.jobs[task_id].task}) should be {str(self.jobs[task_id].expected)[:40]}, "
            f"is {str(answer)[:120]!r}"
            for task_id, answer in self.answers.items()
            if answer != self.jobs[task_id].expected and not (isinstance(answer, ResultLost) and lost(task_id))
        ]
