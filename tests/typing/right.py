"""What a type checker must accept, with the types it must find. Never imported or run: see `test_typing.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import assert_type

from yadtq import Task, TaskContext, TaskHandle, TaskStatus, Yadtq
from yadtq.sync import YADTQClient


@dataclass
class State:
    db: str


@asynccontextmanager
async def lifespan(app: Yadtq) -> AsyncGenerator[State, None]:
    yield State(app.name)


app = Yadtq("typing", lifespan=lifespan)


@app.task
async def stateful(ctx: TaskContext[State], n: int) -> str:
    assert_type(ctx.state, State)
    return ctx.state.db * n


@app.task
async def addition(x: int, y: int) -> int:
    return x + y


@app.task(retries=3, timeout=30)
async def greeting(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@app.task
def square(x: float) -> float:
    return x * x


@app.task
def send(ctx: TaskContext, to: str) -> bool:
    return bool(to and ctx.attempt)


@app.task(name="post.later", queue="slow", retry_base=0.5, retry_cap=60, timeout=None)
async def post(ctx: TaskContext, to: str, copies: int = 1) -> list[str]:
    return [f"{to} {ctx.task_id}"] * copies


def tasks() -> None:
    assert_type(addition.name, str)
    described: Task[..., list[str]] = post
    print(described)


async def submits() -> None:
    assert_type(await addition.submit(1, y=2), TaskHandle[int])
    assert_type(await greeting.submit("you", loud=True), TaskHandle[str])
    assert_type(await square.submit(2), TaskHandle[float])
    assert_type(await send.submit("me"), TaskHandle[bool])
    assert_type(await stateful.submit(2), TaskHandle[str])
    assert_type(await post.options(retries=0, timeout=2.5).submit("me", copies=2), TaskHandle[list[str]])


async def through_the_client() -> None:
    async with app.client(num_partitions=4) as client:
        handle = await client.submit(addition, 100, 25)
        assert_type(handle, TaskHandle[int])
        assert_type(await handle.status(), TaskStatus)
        assert_type(await handle.result(timeout=10), int)
        assert_type(await client.submit(greeting.options(queue="slow"), "you"), TaskHandle[str])
        async for ended in client.as_completed([handle]):
            assert_type(ended, TaskHandle[int])
        assert_type(await handle, int)
        assert_type(await client.result(handle, 10), int)
        assert_type(
            await client.submit_many(addition, [(1, 2)], {"retries": 3, "timeout": None}), list[TaskHandle[int]]
        )
        assert_type(await client.submit_many(greeting.options(queue="slow"), [("you",)]), list[TaskHandle[str]])
        by_names = await client.submit_many("addition", [[1, 2]])
        print(by_names[0].id)
        by_name = await client.submit("addition", 100, 25)
        print(await by_name.result() + 1)


def settings() -> None:
    Yadtq("shop", kafka="h:1", redis="redis://h", num_partitions=8, lease_s=10, kafka_tls=True, include=["shop.mail"])
    Yadtq("shop", kafka_sasl="PLAIN", kafka_user="u", kafka_password="p").configure(redis=None)


def blocking() -> None:
    with YADTQClient(4, app="shop", kafka="h:1", submit_timeout_s=3) as client:
        assert_type(client.submit_task(addition, [1, 2], retries=3), str)
        assert_type(client.submit_many("addition", [[1, 2], {"x": 1, "y": 2}]), list[str])
        assert_type(client.get_status("id"), TaskStatus)
        print(client.get_result("id", timeout=3))
