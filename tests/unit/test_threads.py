"""Threads for sync tasks: bounded, though none of them can be ended."""

from __future__ import annotations

import pytest

pytest.skip("being ported to the new parts", allow_module_level=True)

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_delivery
from tests.support.poll import eventually
from yadtq.execution.runners.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_result_and_an_error_come_through() -> None:
    threads = Threads(1)
    assert await threads.run(make_delivery(), lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await threads.run(make_delivery(), lambda: 1 // 0)
    assert threads.busy == set()


async def test_a_thread_left_to_itself_keeps_its_place_until_it_returns(gate: threading.Event) -> None:
    threads, hanging, ran = Threads(1), make_delivery(), []
    first = asyncio.create_task(threads.run(hanging, gate.wait))
    await eventually(lambda: threads.busy == {hanging})
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    # The same delivery again, as a retry after a time-out would be: it has to wait for the place.
    second = asyncio.create_task(threads.run(hanging, lambda: ran.append(1)))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done
    assert (threads.busy, ran) == ({hanging}, [])
    gate.set()
    await asyncio.wait_for(second, 5)
    assert (threads.busy, ran) == (set(), [1])


async def test_one_cancelled_while_it_waits_for_a_place_never_begins_and_takes_none(gate: threading.Event) -> None:
    threads, ran = Threads(1), []
    first = asyncio.create_task(threads.run(make_delivery(), gate.wait))
    await eventually(lambda: threads.busy != set())
    second = asyncio.create_task(threads.run(make_delivery(), lambda: ran.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await asyncio.wait_for(first, 5)
    await asyncio.wait_for(threads.run(make_delivery(), lambda: ran.append(3)), 5)
    assert ran == [3]


async def test_cancelled_at_any_moment_a_place_is_never_lost() -> None:
    threads = Threads(2)
    for turns in range(60):
        run = asyncio.create_task(threads.run(make_delivery(), lambda: None))
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
    await eventually(lambda: threads.busy == set())
    both = [threads.run(make_delivery(), lambda: 1) for _ in range(2)]
    assert await asyncio.wait_for(asyncio.gather(*both), 5) == [1, 1]
