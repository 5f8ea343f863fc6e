"""Never more under way than there is room for, in order, and nobody who gives up takes room with him."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.runtime.admission import Admission


async def ticks(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_room_is_taken_and_given_back() -> None:
    admission = Admission(3)
    await admission.enter(2, 1)
    second = asyncio.create_task(admission.enter(2, 1))
    await ticks()
    assert not second.done()
    admission.leave(2)
    await second
    assert admission.pending == 2


async def test_the_first_come_is_the_first_let_in_though_a_later_one_would_fit() -> None:
    admission = Admission(3)
    await admission.enter(2, 1)
    large, small = asyncio.create_task(admission.enter(3, 1)), asyncio.create_task(admission.enter(1, 1))
    await ticks()
    assert not large.done()
    assert not small.done()
    admission.leave(2)
    await ticks()
    assert large.done()
    assert not small.done()
    admission.leave(3)
    await small


async def test_more_than_there_is_room_for_gets_in_alone() -> None:
    admission = Admission(3)
    await admission.enter(10, 1)
    other = asyncio.create_task(admission.enter(1, 1))
    await ticks()
    assert not other.done()
    admission.leave(10)
    await other


async def test_one_that_waits_too_long_is_told_and_the_next_has_its_turn() -> None:
    admission = Admission(3)
    await admission.enter(2, 1)
    late = asyncio.create_task(admission.enter(2, 0.01))
    next_ = asyncio.create_task(admission.enter(1, 5))
    with pytest.raises(TimeoutError):
        await late
    await asyncio.wait_for(next_, 1)
    assert admission.pending == 3


async def test_one_cancelled_in_the_tick_in_which_it_is_let_in_takes_no_room() -> None:
    admission = Admission(1)
    await admission.enter(1, 1)
    waiting = [asyncio.create_task(admission.enter(1, 5)) for _ in range(2)]
    await ticks()
    admission.leave(1)
    waiting[0].cancel()
    await asyncio.wait(waiting)
    assert waiting[0].cancelled()
    assert admission.pending == 1, "the second has it"


async def test_refusing_tells_all_who_wait() -> None:
    admission = Admission(1)
    await admission.enter(1, 1)
    waiting = [asyncio.create_task(admission.enter(1, 5)) for _ in range(2)]
    await ticks()
    admission.refuse(ValueError("closed"))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["closed", "closed"]
    admission.leave(1)
    assert admission.pending == 0


@given(
    limit=st.integers(1, 5),
    steps=st.lists(st.one_of(st.integers(1, 6), st.sampled_from(["leave", "cancel", "tick"])), max_size=60),
)
def test_in_any_order_of_events(limit: int, steps: list[int | str]) -> None:
    async def scenario() -> None:
        admission = Admission(limit)
        calls: list[tuple[int, asyncio.Task[None]]] = []
        inside: list[int] = []

        def look() -> None:
            for call in [call for call in calls if call[1].done()]:
                calls.remove(call)
                if not call[1].cancelled():
                    inside.append(call[0])

        for step in steps:
            if isinstance(step, int):
                calls.append((step, asyncio.create_task(admission.enter(step, 60))))
            elif step == "tick":
                await ticks()
            elif step == "leave" and inside:
                admission.leave(inside.pop(0))
            elif step == "cancel" and calls:
                calls[len(calls) // 2][1].cancel()
            look()
            assert admission.pending <= limit or len(inside) <= 1
        while calls or inside:
            await ticks()
            look()
            if inside:
                admission.leave(inside.pop(0))
        assert admission.pending == 0

    asyncio.run(scenario())
