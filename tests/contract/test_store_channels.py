"""What is said to workers and waiters: in a step of the listener's own loop, never on the speaker's stack."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from tests.support.poll import eventually
from tests.support.service_contract import exercise_service
from yadtq.store.tasks.verbs import Claim, Finish, Snapshot
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.contract.store_harness import Harness
    from yadtq.runtime.service import Service
    from yadtq.store.verbs import News


class Ear:
    """What a subscription hears, in order: messages, and "gap"."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.tasks: list[object] = []

    def message(self, message: Any) -> None:
        self.heard.append(message)
        self.tasks.append(asyncio.current_task())

    def gap(self) -> None:
        self.heard.append("gap")

    @property
    def messages(self) -> list[Any]:
        return [each for each in self.heard if each != "gap"]


@asynccontextmanager
async def run(*services: Service) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        for service in services:
            await group.start(service.run)
        yield
        for service in services:
            service.stop()


async def end(harness: Harness, task_id: str, payload: bytes = b"7") -> None:
    await harness.store.tasks.claim("w", [Claim(task_id, "n" + task_id)], 0)
    assert await harness.store.tasks.finish([Finish(task_id, "n" + task_id, 1, TaskStatus.SUCCESS, payload)]) == [True]


def told(news: Sequence[Sequence[News]]) -> list[tuple[str, TaskStatus]]:
    return [(task_id, snapshot.status) for message in news for task_id, snapshot in message]


async def test_a_start_is_a_gap_and_comes_before_the_first_message(harness: Harness) -> None:
    ear = Ear()
    async with run(harness.store.hear_control(ear.message, ear.gap)):
        assert ear.heard == ["gap"], "started means subscribed"
        await harness.store.deaths.bury("host.shop.slot-0:1")
        await eventually(lambda: ear.messages == [b"dead host.shop.slot-0:1"])
    assert ear.heard[0] == "gap"


async def test_every_listener_hears_every_message(harness: Harness) -> None:
    ears = [Ear(), Ear(), Ear()]
    async with run(*(harness.store.hear_control(ear.message, ear.gap) for ear in ears)):
        await harness.store.deaths.bury("a")
        await harness.store.deaths.bury("b")
        await eventually(lambda: all(ear.messages == [b"dead a", b"dead b"] for ear in ears))


async def test_an_end_is_told_to_the_channel_that_waits_and_to_no_other(harness: Harness) -> None:
    waiting, other, control = Ear(), Ear(), Ear()
    store = harness.store
    async with run(
        store.hear_ends("mine", waiting.message, waiting.gap),
        store.hear_ends("other", other.message, other.gap),
        store.hear_control(control.message, control.gap),
    ):
        await store.tasks.register(["t", "u"])
        assert await store.tasks.wait("mine", ["t"]) == [Snapshot(TaskStatus.QUEUED)]
        await end(harness, "u")
        await end(harness, "t")
        await eventually(lambda: told(waiting.messages) == [("t", TaskStatus.SUCCESS)])
    assert not other.messages
    assert not control.messages


async def test_nothing_is_heard_on_the_stack_of_who_speaks(harness: Harness) -> None:
    """The speaker may hold what the listener needs, and an error of the listener must not reach it."""
    ear = Ear()
    speaker: list[object] = []

    def raises(message: Any) -> None:
        ear.message(message)
        raise RuntimeError("of the listener")

    loop = asyncio.get_running_loop()
    caught: list[Any] = []
    loop.set_exception_handler(lambda _, context: caught.append(context))
    try:
        async with run(harness.store.hear_control(raises, ear.gap)):
            speaker.append(asyncio.current_task())
            await harness.store.deaths.bury("a")
            await eventually(lambda: len(ear.messages) == 1)
            await harness.store.deaths.bury("b")
            await eventually(lambda: len(ear.messages) == 2, what="the message after the one that was not understood")
    finally:
        loop.set_exception_handler(None)
    assert speaker[0] not in ear.tasks


async def test_a_cut_is_told_as_a_gap_and_what_comes_after_it_is_heard(harness: Harness) -> None:
    ear, ends = Ear(), Ear()
    store = harness.store
    async with run(store.hear_control(ear.message, ear.gap), store.hear_ends("mine", ends.message, ends.gap)):
        await harness.cut()
        await eventually(lambda: ear.heard == ["gap", "gap"] and ends.heard == ["gap", "gap"], timeout=10)
        await store.deaths.bury("a")
        await store.tasks.wait("mine", ["t"])
        await end(harness, "t")
        await eventually(lambda: ear.messages == [b"dead a"] and told(ends.messages) == [("t", TaskStatus.SUCCESS)])


async def test_nothing_is_heard_after_the_end(harness: Harness) -> None:
    ear, other = Ear(), Ear()
    service = harness.store.hear_control(ear.message, ear.gap)
    async with run(service):
        pass
    async with run(harness.store.hear_control(other.message, other.gap)):
        await harness.store.deaths.bury("a")
        await eventually(lambda: other.messages == [b"dead a"])
    assert ear.heard == ["gap"]


async def test_a_stop_before_the_start_ends_it_at_once(harness: Harness) -> None:
    service = harness.store.hear_control(lambda _: None, lambda: None)
    service.stop()
    service.stop()
    async with asyncio.timeout(5):
        await service.run()


async def test_a_subscription_keeps_the_contract_of_services(harness: Harness) -> None:
    await exercise_service(lambda: harness.store.hear_control(lambda _: None, lambda: None))
