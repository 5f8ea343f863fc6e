"""The world itself: a kill is a kill, time passes only when all wait, and no error is overlooked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from yadtq.errors import StoreUnavailable
from yadtq.testing.sim.net import Link, Server, Weather
from yadtq.testing.sim.run import Report, in_world
from yadtq.testing.sim.world import Livelock, World

if TYPE_CHECKING:
    from yadtq.testing.sim.node import Node


async def forever(node: Node) -> None:
    await asyncio.Event().wait()


def test_nothing_of_a_killed_process_runs_any_more() -> None:
    world, seen = World(1), list[str]()

    async def main(node: Node) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 100)
                await anyio.sleep(1)
                seen.append("lives")
        finally:
            seen.append("finally")

    node = world.node("n", main)
    world.pass_time(0.5)
    world.kill(node)
    world.pass_time(500)
    assert seen == []
    world.close()


def test_time_passes_only_when_all_wait() -> None:
    world, ends = World(1), dict[str, float]()

    async def main(node: Node) -> None:
        async with asyncio.timeout(10):
            await asyncio.sleep(3)
        ends[node.name] = world.now

    for name in ("a", "b", "c"):
        world.node(name, main)
    assert world.run(lambda: len(ends) == 3, 5)
    assert set(ends.values()) == {3.0}
    world.close()


def test_a_frozen_process_goes_on_where_it_was() -> None:
    world, ends = World(1), list[float]()

    async def main(node: Node) -> None:
        await asyncio.sleep(1)
        ends.append(world.now)

    node = world.node("n", main)
    world.pass_time(0.5)
    node.freeze(7)
    world.pass_time(10)
    assert ends == [7.5]
    world.close()


def test_a_process_that_never_waits_is_a_livelock() -> None:
    async def main(node: Node) -> None:
        while True:  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0)

    def play(world: World, report: Report) -> None:
        world.node("n", main)
        world.pass_time(1)

    assert "livelock" in in_world(1, play).problems[0]
    assert issubclass(Livelock, AssertionError)


def test_an_error_that_nobody_looks_at_is_a_violation() -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    async def main(node: Node) -> None:
        node.loop.create_task(fail())
        await forever(node)

    def play(world: World, report: Report) -> None:
        world.node("n", main)
        world.pass_time(1)

    assert "never retrieved: ValueError: unseen" in in_world(1, play).problems[0]


@pytest.mark.parametrize(
    ("weather", "answered", "done"),
    [(Weather(), True, 1), (Weather(lose_question=1.0), False, 0), (Weather(lose_answer=1.0), False, None)],
)
def test_a_lost_answer_leaves_the_question_done(weather: Weather, answered: bool, done: int | None) -> None:
    world = World(1)
    server = Server("redis", world, weather)
    count, answers = 0, list[object]()

    def ask() -> str:
        nonlocal count
        count += 1
        return "done"

    async def main(node: Node) -> None:
        try:
            answers.append(await Link(node, server).call("ask", ask, timeout_s=2, error=StoreUnavailable))
        except StoreUnavailable as error:
            answers.append(error)

    world.node("n", main)
    world.pass_time(5)
    assert (answers == ["done"]) is answered
    assert count == done or (done is None and count >= 1), "asked again after a lost answer, it is done again"
    world.close()
