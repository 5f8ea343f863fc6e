"""What tasks share: opened before the first claim, closed after the last outcome, and what happens if either fails."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.support.assembled import Assembled, assembled
from tests.support.poll import eventually
from yadtq import TaskContext, Yadtq
from yadtq.errors import BrokerUnavailable, ConfigError, LifespanFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class State:
    """events: in their order."""

    events: list[str] = field(default_factory=list)
    is_open: bool = True


def make(enter: Any = None, leave: Any = None) -> tuple[Yadtq, State]:
    """enter, leave: awaited in the lifespan, before and after."""
    state = State()

    @asynccontextmanager
    async def lifespan(app: Yadtq) -> AsyncIterator[State]:
        state.events.append(f"opens {app.name}")
        if enter is not None:
            await enter()
        state.events.append("open")
        yield state
        if leave is not None:
            await leave()
        state.events.append("closed")

    app = Yadtq("t", lifespan=lifespan)

    @app.task
    async def use(ctx: TaskContext[State]) -> bool:
        ctx.state.events.append("runs")
        await asyncio.sleep(0.01)
        ctx.state.events.append("ends")
        return ctx.state.is_open

    @app.task
    def use_in_thread(ctx: TaskContext[State]) -> bool:
        return ctx.state.is_open

    return app, state


async def failing(error: BaseException) -> None:
    raise error


async def test_tasks_get_what_it_yields_between_its_beginning_and_its_end() -> None:
    app, state = make()
    async with assembled(app) as made:
        for task in ("use", "use_in_thread"):
            made.submit(task, task_id=task)
        await made.ended("use", "use_in_thread")
        assert (await made.snapshot("use_in_thread")).payload == b"true"
    assert state.events == ["opens t", "open", "runs", "ends", "closed"]
    assert (await made.snapshot("use")).payload == b"true"


async def test_a_task_that_runs_when_the_drain_begins_has_it_to_its_end() -> None:
    app, state = make()
    async with assembled(app) as made:
        made.submit("use", task_id="a")
        await eventually(lambda: "runs" in state.events, interval=0.001)
    assert state.events[-2:] == ["ends", "closed"]
    assert await made.statuses("a") == {"SUCCESS"}


async def test_nothing_is_claimed_before_it_is_open() -> None:
    go = asyncio.Event()
    app, state = make(go.wait)
    made = Assembled(app)
    made.submit("use", task_id="a")
    run = asyncio.create_task(made.worker.run())
    await eventually(lambda: state.events == ["opens t"] and made.parts.heart.phase == "starting", interval=0.001)
    for _ in range(50):
        await asyncio.sleep(0)
    assert await made.statuses("a") == {"-"}
    go.set()
    await made.ended("a")
    made.worker.drain()
    await run


@pytest.mark.parametrize(
    ("error", "wanted", "words"),
    [
        (ValueError("no\nsuch host"), LifespanFailed, "'t' could not be opened: ValueError: no$"),
        (BrokerUnavailable("away"), BrokerUnavailable, "away"),
        (ConfigError("set SHOP_DB"), ConfigError, "set SHOP_DB"),
        (SystemExit(3), LifespanFailed, r"SystemExit\(3\)"),
        (asyncio.CancelledError(), LifespanFailed, "ended by itself"),
    ],
)
async def test_one_that_can_not_be_opened_ends_the_worker(error: BaseException, wanted: type, words: str) -> None:
    app, _ = make(lambda: failing(error))
    made = Assembled(app)
    made.submit("use", task_id="a")
    with pytest.raises(wanted, match=words):
        await made.worker.run()
    assert await made.statuses("a") == {"-"}


async def test_one_that_takes_too_long() -> None:
    app, _ = make(asyncio.Event().wait)
    made = Assembled(app, lifespan_timeout_s=0.05)
    with pytest.raises(LifespanFailed, match=r"not open within 0.05 s \(lifespan_timeout_s\)"):
        await made.worker.run()


async def test_a_drain_while_it_opens_ends_the_worker_without_a_claim() -> None:
    app, state = make(asyncio.Event().wait)
    made = Assembled(app)
    made.submit("use", task_id="a")
    run = asyncio.create_task(made.worker.run())
    await eventually(lambda: state.events == ["opens t"], interval=0.001)
    made.worker.drain()
    await asyncio.wait_for(run, 10)
    assert await made.statuses("a") == {"-"}


async def test_one_that_fails_while_it_closes_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = make(leave=lambda: failing(ValueError("no answer")))
    async with assembled(app) as made:
        made.submit("use", task_id="a")
        await made.ended("a")
    assert "failed while it closed" in caplog.text
    assert made.committed_all()


async def test_one_that_does_not_close_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yadtq.worker.drain._OTHERS_S", 0.05)
    app, state = make(leave=asyncio.Event().wait)
    async with assembled(app) as made:
        made.submit("use", task_id="a")
        await made.ended("a")
    assert state.events[-1] == "ends"


async def test_a_part_of_it_that_fails_ends_the_worker() -> None:
    go = asyncio.Event()

    async def part() -> None:
        await go.wait()
        raise OSError("connection lost")

    @asynccontextmanager
    async def lifespan(app: Yadtq) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(part)
            yield

    made = Assembled(Yadtq("t", lifespan=lifespan))
    run = asyncio.create_task(made.worker.run())
    await eventually(lambda: made.parts.heart.phase == "running", interval=0.001)
    go.set()
    with pytest.raises(LifespanFailed, match="failed while tasks ran: ExceptionGroup"):
        await run


@pytest.mark.parametrize("lifespan", [lambda app: None, lambda app: "pool"])
async def test_what_is_no_context_manager_is_refused_with_the_remedy(lifespan: Any) -> None:
    with pytest.raises(ConfigError, match="@asynccontextmanager"):
        await Assembled(Yadtq("t", lifespan=lifespan)).worker.run()
    with pytest.raises(ConfigError, match="lifespan is a function"):
        Yadtq("t", lifespan=5)  # type: ignore[arg-type]


async def test_it_may_submit() -> None:
    @asynccontextmanager
    async def lifespan(app: Yadtq) -> AsyncIterator[None]:
        handles.append(await hello.submit())
        yield

    app = Yadtq("t", lifespan=lifespan)
    handles: list[Any] = []

    @app.task
    async def hello() -> None: ...

    async with assembled(app) as made:
        await made.ended(handles[0].id)
