from __future__ import annotations

import asyncio
from itertools import count

import pytest

from tests.support.poll import consistently, eventually, eventually_blocking


async def test_returns_the_first_truthy_value() -> None:
    numbers = count()
    assert await eventually(lambda: next(numbers), interval=0) == 1


async def test_awaits_an_async_check() -> None:
    numbers = count()

    async def check() -> int:
        return next(numbers)

    assert await eventually(check, interval=0) == 1


async def test_an_exception_means_not_yet() -> None:
    found: list[str] = []

    def check() -> str:
        found.append("x")
        return found[2]

    assert await eventually(check, interval=0) == "x"


async def test_gives_up_with_what_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.01 s for the moon; last value 0"):
        await eventually(lambda: 0, timeout=0.01, interval=0.001, what="the moon")


async def test_gives_up_with_the_last_exception() -> None:
    with pytest.raises(AssertionError, match=r"last exception ZeroDivisionError"):
        await eventually(lambda: 1 / 0, timeout=0.01, interval=0.001)


async def test_a_check_that_hangs_shares_the_deadline() -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(AssertionError, match="last nothing"):
        await eventually(hang, timeout=0.05)


async def test_cancellation_is_not_taken_for_not_yet() -> None:
    started = asyncio.Event()

    def check() -> bool:
        started.set()
        return False

    waiting = asyncio.create_task(eventually(check))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_blocking_gives_up_as_well() -> None:
    assert eventually_blocking(lambda: 7) == 7
    with pytest.raises(AssertionError, match="last exception KeyError"):
        eventually_blocking(lambda: dict[str, int]()["x"], timeout=0.01, interval=0.001)


async def test_consistently_sees_a_late_change() -> None:
    await consistently(lambda: True, during=0.02, interval=0.001)
    numbers = iter([True, True, False])
    with pytest.raises(AssertionError, match="not true for 5 s: quiet"):
        await consistently(lambda: next(numbers), during=5, interval=0, what="quiet")
