"""One timer for many deadlines of the same length: as `asyncio.timeout`, cancellation by others included."""

from __future__ import annotations

import asyncio

import pytest

from yadtq.runtime.deadlines import Deadlines


async def test_what_is_in_time_is_left_alone() -> None:
    deadlines = Deadlines(5.0)
    with deadlines.within():
        await asyncio.sleep(0)
    deadlines.close()


async def test_each_has_its_own_end() -> None:
    deadlines = Deadlines(0.05)
    ended: list[int] = []

    async def late(n: int) -> None:
        with pytest.raises(TimeoutError), deadlines.within():
            await asyncio.Event().wait()
        ended.append(n)

    await asyncio.gather(late(1), late(2))
    assert ended == [1, 2]
    with deadlines.within():
        await asyncio.sleep(0)


async def test_an_error_of_the_body_is_its_own() -> None:
    deadlines = Deadlines(5.0)
    with pytest.raises(KeyError), deadlines.within():
        raise KeyError("a")
    deadlines.close()


async def test_a_cancellation_from_outside_stays_one() -> None:
    deadlines = Deadlines(5.0)

    async def work() -> None:
        with deadlines.within():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_both_at_once_is_a_cancellation() -> None:
    deadlines = Deadlines(0.01)

    async def work() -> None:
        with deadlines.within():
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
