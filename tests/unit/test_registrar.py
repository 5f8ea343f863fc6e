"""What Kafka has accepted becomes QUEUED, unless Redis lost its data in between: then it may have ended before."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from tests.support.poll import eventually
from yadtq.client.registrar import Registrar
from yadtq.runtime.service import start_services
from yadtq.testing.doubles import ManualClock, MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Given:
    """A registrar that runs, and one task that is registered already."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock, random.Random(1))
        self.saved = self.store.snapshot()
        self.left = 0
        self.registrar = Registrar(self.store, self.clock, 3.0, on_left=self.leave)

    def leave(self) -> None:
        self.left += 1

    def send(self, *task_ids: str) -> None:
        """They were sent now, and Kafka has them."""
        self.registrar.add(task_ids, self.clock.monotonic())
        self.clock.advance(0.1)

    def hold_up(self) -> None:
        """Redis is away, so that what is sent now can't be registered."""
        self.store.down = True

    async def return_with(self, loss: str) -> None:
        self.clock.advance(5)
        if loss == "all":
            self.store.flush()
        elif loss == "the latest":
            self.store.restore(self.saved)
        self.store.down = False
        self.clock.advance(0.1)
        if loss == "all":
            await self.store.data_set()  # a worker asked first
        self.clock.advance(0.1)

    async def known(self) -> str:
        """Of the tasks a to d."""
        found = await self.store.tasks.snapshots(["a", "b", "c", "d"])
        return "".join(letter for letter, each in zip("abcd", found, strict=True) if each)


@asynccontextmanager
async def running() -> AsyncIterator[Given]:
    given, stopped = Given(), asyncio.Event()
    async with anyio.create_task_group() as group:
        await start_services(group, [given.registrar], stopped.is_set)
        given.clock.advance(1)
        await given.store.data_set()
        given.clock.advance(1)
        given.send("a")
        await given.registrar.flush()
        assert await given.known() == "a"
        given.saved = given.store.snapshot()
        yield given
        stopped.set()
        given.registrar.stop()


async def held_up(given: Given, *task_ids: str) -> None:
    given.hold_up()
    given.send(*task_ids)
    await eventually(lambda: given.registrar._outage)


async def test_what_an_outage_held_up_is_registered_after_it() -> None:
    async with running() as given:
        await held_up(given, "b", "c")
        await given.return_with("")
        await eventually(lambda: not given.registrar._outage)
        assert await given.known() == "abc"


async def test_what_was_sent_before_a_loss_is_left_to_the_workers() -> None:
    """Found by seed 11160 of the simulation: it had ended in what was lost, and was QUEUED for ever."""
    for loss in ("all", "the latest"):
        async with running() as given:
            await held_up(given, "b", "c")
            await given.return_with(loss)
            await eventually(lambda: not given.registrar._outage, what="submits to be accepted again")
            given.send("d")
            await eventually(lambda: not given.registrar._outage)
            await given.registrar.flush()
            assert await given.known() == "d"
            assert given.left == 1, "a wait for them takes as long as workers need"
            assert not any(given.registrar.is_pending(each) for each in "abcd"), (
                "a wait for it is told what Redis knows"
            )


async def test_an_acknowledgement_that_comes_after_a_loss_proves_nothing() -> None:
    """The record was in Kafka earlier, and its task may have ended before the loss."""
    async with running() as given:
        sent_at = given.clock.monotonic()
        given.clock.advance(1)
        given.store.flush()
        await given.store.data_set()
        given.clock.advance(1)
        given.registrar.add(["b"], sent_at)
        given.send("c")
        await given.registrar.flush()
        assert await given.known() == "c"


async def test_while_nobody_has_asked_an_emptied_redis_for_its_name_the_age_of_a_loss_is_not_known() -> None:
    async with running() as given:
        given.store.flush()
        given.send("b")
        await given.registrar.flush()
        assert await given.known() == "", "the data set began when this client asked for it"
        given.send("c")
        await given.registrar.flush()
        assert await given.known() == "c"
