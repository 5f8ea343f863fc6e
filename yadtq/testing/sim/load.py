"""What is to be done in a simulation: an app whose tasks write down each of their runs, and clients that submit.

What a task does, and how it must end, is decided before it is submitted (`Job`), so that the judge knows.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from yadtq.app import Yadtq
from yadtq.client.client import Client
from yadtq.context import TaskContext  # noqa: TC001 - the app reads the signatures of its tasks
from yadtq.errors import (
    BrokerUnavailable,
    ResultLost,
    ResultUnreadable,
    StoreUnavailable,
    SubmitUncertain,
    TaskFailed,
    TaskNotFound,
)
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from yadtq.outside import Outside
    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["LIMIT_S", "RETRIES", "Job", "Ledger", "Run", "make_app", "submit_all"]

RETRIES = 3
#: The time limit of `slow`.
LIMIT_S = 1.0
#: A client asks again after so long.
#: Longer than it takes to tell that a result is lost: `Doubts` begins again with each call.
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """kind: the task. seconds: how long a run takes. trouble: how many runs raise, or kill their process."""

    task_id: str
    kind: str
    seconds: float = 0.0
    trouble: int = 0
    queue: str = "default"

    @property
    def status(self) -> TaskStatus:
        """How it must end, where no fault says otherwise."""
        if self.kind == "unknown" or (self.kind == "slow" and self.seconds > LIMIT_S):
            return TaskStatus.FAILED
        if self.kind in ("flaky", "crasher") and self.trouble > RETRIES:
            return TaskStatus.FAILED
        return TaskStatus.SUCCESS


@dataclass(slots=True)
class Run:
    """One execution. ended_at: None if it never came to its end. how: "returned", "raised" or "cancelled"."""

    task_id: str
    attempt: int
    nonce: str
    worker: str
    started_at: float
    ended_at: float | None = None
    how: str = ""


@dataclass(slots=True)
class Shared:
    """What the app's lifespan gives."""

    is_open: bool = False


@dataclass
class Ledger:
    """Every run, in the order of their starts."""

    world: World
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    on_start: list[Callable[[Run], None]] = field(default_factory=list)

    def start(self, ctx: TaskContext[Shared]) -> Run:
        if not ctx.state.is_open:
            self.world.fail(f"{ctx.task_id} runs outside of the lifespan of {ctx.worker}")
        run = Run(ctx.task_id, ctx.attempt, ctx.fencing_token, ctx.worker, self.world.now)
        self.runs[run.task_id].append(run)
        self.world.note(run.worker, "runs", f"{run.task_id} attempt {run.attempt}")
        for hear in self.on_start:
            hear(run)
        return run

    def end(self, run: Run, how: str) -> None:
        run.ended_at, run.how = self.world.now, how
        self.world.note(run.worker, how, f"{run.task_id} attempt {run.attempt}")

    def failures(self, task_id: str) -> int:
        return sum(run.how == "raised" for run in self.runs[task_id])


def make_app(name: str, ledger: Ledger, crash: Callable[[str], None], *, old: bool = False, **settings: Any) -> Yadtq:
    """old: the code before a deploy: without `added`, and with `grown` as it was before its third parameter.

    crash: kills the process that runs this, the worker's or a child of it, at once.
    """

    @asynccontextmanager
    async def lifespan(app: Yadtq) -> AsyncIterator[Shared]:
        shared = Shared()
        await asyncio.sleep(0.01)
        shared.is_open = True
        yield shared
        shared.is_open = False

    app = Yadtq(name, lifespan=lifespan, kafka="simulated:1", redis="redis://simulated", **settings)

    async def work(ctx: TaskContext[Shared], seconds: float) -> str:
        run = ledger.start(ctx)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ledger.end(run, "cancelled")
            raise
        ledger.end(run, "returned")
        return f"{ctx.task_id}/{ctx.attempt}"

    @app.task
    async def nap(ctx: TaskContext[Shared], seconds: float, trouble: int) -> str:
        return await work(ctx, seconds)

    @app.task(timeout=LIMIT_S)
    async def slow(ctx: TaskContext[Shared], seconds: float, trouble: int) -> str:
        return await work(ctx, seconds)

    @app.task(retries=RETRIES, retry_base=0.3, retry_cap=2.0)
    async def flaky(ctx: TaskContext[Shared], seconds: float, trouble: int) -> str:
        run = ledger.start(ctx)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ledger.end(run, "cancelled")
            raise
        if ledger.failures(ctx.task_id) < trouble:
            ledger.end(run, "raised")
            raise ValueError("not this time")
        ledger.end(run, "returned")
        return f"{ctx.task_id}/{ctx.attempt}"

    @app.task
    async def crasher(ctx: TaskContext[Shared], seconds: float, trouble: int) -> str:
        run = ledger.start(ctx)
        await asyncio.sleep(seconds)
        if len(ledger.runs[ctx.task_id]) <= trouble:
            crash(ctx.worker)
            await asyncio.Future()
        ledger.end(run, "returned")
        return f"{ctx.task_id}/{ctx.attempt}"

    _add_versions(app, work, old=old)
    return app


def _add_versions(app: Yadtq, work: Callable[..., Awaitable[str]], *, old: bool) -> None:
    if old:

        @app.task(name="grown")
        async def grown_before(ctx: TaskContext[Shared], seconds: float, trouble: int) -> str:
            return await work(ctx, seconds)

    else:

        @app.task
        async def added(ctx: TaskContext[Shared], seconds: float, trouble: int) -> str:
            return await work(ctx, seconds)

        @app.task(name="grown")
        async def grown_now(ctx: TaskContext[Shared], seconds: float, trouble: int, more: int = 0) -> str:
            return await work(ctx, seconds)


class Submissions:
    """What clients know: which tasks are acknowledged, and how those ended that they waited for."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, float] = {}
        self.seen: dict[str, tuple[TaskStatus, object]] = {}
        self.lost: set[str] = set()
        self.waiting: set[str] = set()
        self.not_found: set[str] = set()
        #: Nobody will ever end these.
        self.given_up: set[str] = set()


async def submit_all(
    node: Node, outside: Outside, app: Yadtq, *, plan: Sequence[tuple[float, Sequence[Job]]], notes: Submissions
) -> None:
    """A client's life. plan: (seconds to wait, jobs to submit then). What is uncertain is submitted again, under its id."""
    client = Client(outside, app.settings, app.registry)
    while True:
        try:
            await client.start()
            break
        except (BrokerUnavailable, StoreUnavailable):
            client = Client(outside, app.settings, app.registry)
            await asyncio.sleep(0.5)
    waits: list[asyncio.Task[None]] = []
    for wait_s, jobs in plan:
        await asyncio.sleep(wait_s)
        for job in jobs:
            await _submit(node, client, job, notes)
            if node.chance.random() < 0.3:
                notes.waiting.add(job.task_id)
                waits.append(asyncio.get_running_loop().create_task(_follow(client, job, notes)))
    await asyncio.gather(*waits)  # an error of any of them is the client's
    await client.close()


async def _submit(node: Node, client: Client, job: Job, notes: Submissions) -> None:
    task = client._registry.get(job.kind)
    bound = (
        task.options(task_id=job.task_id)
        if job.queue == "default"
        else task.options(task_id=job.task_id, queue=job.queue)
    )
    while True:
        try:
            await client.submit(bound, job.seconds, job.trouble, *((1,) if job.kind == "grown" else ()))
        except (SubmitUncertain, StoreUnavailable, BrokerUnavailable) as error:
            node.world.note(node.name, "submit", f"{job.task_id} {type(error).__name__}")
            await asyncio.sleep(0.2 + node.chance.random())
        else:
            notes.acknowledged.setdefault(job.task_id, node.world.now)
            return


async def _follow(client: Client, job: Job, notes: Submissions) -> None:
    while True:
        try:
            notes.seen[job.task_id] = TaskStatus.SUCCESS, await client.result(job.task_id, _PATIENCE_S)
        except TimeoutError:
            if job.task_id not in notes.given_up:
                continue
        except ResultUnreadable:
            pass  # what the store held of it was damaged
        except ResultLost:
            notes.lost.add(job.task_id)
        except TaskFailed as error:
            notes.seen[job.task_id] = TaskStatus.FAILED, error.error_type
        except StoreUnavailable:
            await asyncio.sleep(0.5)
            continue
        except TaskNotFound:
            notes.not_found.add(job.task_id)
            await asyncio.sleep(0.5)
            continue
        break
    notes.waiting.discard(job.task_id)
