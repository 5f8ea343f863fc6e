"""A submit inside a running task: through the worker's own client, and under the same id when the task is run again."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio.from_thread
import pytest

from tests.support.assembled import Assembled, assembled
from tests.support.poll import eventually
from yadtq import TaskContext, Yadtq
from yadtq.errors import BrokerUnavailable, ConfigError, Retry
from yadtq.execution.children import Children
from yadtq.execution.running import children
from yadtq.wire.codec import decode
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable


def sent(made: Assembled, task: str = "child") -> list[str]:
    """The ids of all records of this task, in the order of the log of each partition."""
    bodies = [decode(record.value or b"") for record in made.cluster.records(made.topic)]
    return [body["id"] for body in bodies if body["task"] == task]


class Family:
    """parents are given by the test; `child` counts its runs."""

    def __init__(self) -> None:
        self.app = Yadtq("t")
        self.runs: list[Any] = []

        @self.app.task
        async def child(n: Any = 0) -> int:
            self.runs.append(n)
            return 7

        self.child = child

    async def run(self, parent: Callable[..., Any], *args: Any, **options: Any) -> Assembled:
        task = self.app.task(**{"name": "parent", "retries": 3, "retry_base": 0.0, **options})(parent)
        async with assembled(self.app) as made:
            made.submit(task.name, *args, task_id="p1")
            await made.ended("p1")
            await made.ended(*sent(made))
        return made


@pytest.fixture
def family() -> Family:
    return Family()


async def status(made: Assembled, task_id: str) -> TaskStatus | None:
    return (await made.snapshot(task_id)).status


class TestFromEverywhere:
    async def test_a_task_submits_and_waits(self, family: Family) -> None:
        async def parent() -> int:
            return await (await family.child.submit(1)).result(timeout=10)

        made = await family.run(parent)
        assert (await made.snapshot("p1")).payload == b"7"

    async def test_an_asyncio_task_of_the_task_does(self, family: Family) -> None:
        async def parent() -> None:
            await asyncio.gather(*(family.child.submit(n) for n in range(5)))

        await family.run(parent)
        assert sorted(family.runs) == [0, 1, 2, 3, 4]

    async def test_a_sync_task_does_by_a_loop_of_its_own(self, family: Family) -> None:
        async def inner() -> int:
            handle = await family.child.submit(1)
            result: int = await handle.result(timeout=10)
            await handle.status()
            return result

        def parent() -> int:
            return asyncio.run(inner())

        made = await family.run(parent)
        assert (await made.snapshot("p1")).payload == b"7"

    async def test_a_sync_task_does_by_anyio(self, family: Family) -> None:
        def parent() -> None:
            anyio.from_thread.run(family.child.submit, 1)

        await family.run(parent)
        assert family.runs == [1]

    async def test_a_thread_that_a_task_started_does(self, family: Family) -> None:
        def parent() -> None:
            async def inner() -> None:
                await family.child.submit(1)

            thread = threading.Thread(target=lambda: asyncio.run(inner()))
            thread.start()
            thread.join(10)

        await family.run(parent)
        assert family.runs == [1]

    async def test_after_the_worker_has_ended_there_is_no_client(self, family: Family) -> None:
        async def parent() -> None:
            await family.child.submit(1)

        await family.run(parent)
        with pytest.raises(ConfigError, match="no connected client"):
            await family.child.submit(2)

    async def test_a_client_that_was_opened_around_the_worker_does_not_matter(self, family: Family) -> None:
        async def parent() -> None:
            await family.child.submit(1)

        async with family.app.client(outside=Assembled(Yadtq("t")).worker.outside):
            made = await family.run(parent)
        assert len(sent(made)) == 1

    async def test_one_that_can_not_connect_tries_again(self, family: Family, monkeypatch: Any) -> None:
        """Nothing was sent, so the task that is run again submits it."""
        provision, failures = Assembled(Yadtq("t")).worker.outside.broker.__class__.provision, [1]

        async def failing(self: Any, *args: Any, **kwargs: Any) -> None:
            if failures and made_ready:
                failures.pop()
                raise BrokerUnavailable("away")
            await provision(self, *args, **kwargs)

        made_ready: list[bool] = []
        monkeypatch.setattr("yadtq.testing.memory_app.MemoryAppBroker.provision", failing)

        async def parent() -> None:
            made_ready.append(True)
            await family.child.submit(1)

        await family.run(parent)
        assert (failures, family.runs, len(made_ready)) == ([], [1], 2)


class TestIds:
    async def test_a_parent_that_is_run_again_starts_its_children_once(self, family: Family) -> None:
        async def parent(ctx: TaskContext) -> None:
            await family.child.submit(1)
            await family.child.submit(2)
            await family.child.submit(1)
            if ctx.attempt < 3:
                raise Retry(delay=0)

        made = await family.run(parent)
        ids = sent(made)
        assert (len(ids), len(set(ids))) == (9, 3)
        assert sorted(family.runs) == [1, 1, 2]

    @pytest.mark.parametrize("how", ["gather", "many", "options", "names", "client"])
    async def test_in_every_way_to_submit(self, family: Family, how: str) -> None:
        async def parent(ctx: TaskContext) -> None:
            if how == "gather":
                order = range(4) if ctx.attempt == 1 else reversed(range(4))
                await asyncio.gather(*(family.child.submit(n) for n in order))
            elif how == "options":
                for n in range(4):
                    await family.child.options(retries=2).submit(n=n)
            else:
                client: Any = family.app._clients.current()
                client = await client._connected(asyncio.get_running_loop())
                if how == "many":
                    await client.submit_many(family.child, [(n,) for n in range(4)])
                for n in range(4) if how != "many" else ():
                    await client.submit("child" if how == "names" else family.child, n)
            if ctx.attempt == 1:
                raise Retry(delay=0)

        made = await family.run(parent)
        ids = sent(made)
        assert (len(ids), len(set(ids))) == (8, 4)
        assert sorted(family.runs) == [0, 1, 2, 3]

    async def test_fresh_ones_differ(self, family: Family) -> None:
        async def parent(ctx: TaskContext) -> None:
            await family.child.options(fresh=True).submit(1)
            if ctx.attempt == 1:
                raise Retry(delay=0)

        await family.run(parent)
        assert family.runs == [1, 1]

    async def test_another_call_of_a_later_attempt_is_another_task(self, family: Family) -> None:
        async def parent(ctx: TaskContext) -> None:
            await family.child.submit(ctx.attempt)
            if ctx.attempt == 1:
                raise Retry(delay=0)

        await family.run(parent)
        assert sorted(family.runs) == [1, 2]

    async def test_the_order_of_a_set_is_no_other_call(self, family: Family) -> None:
        words = [f"w{n}" for n in range(20)]

        @family.app.task
        async def takes_set(words: set[str]) -> None: ...

        from yadtq.client.calls import call_key

        found = {
            call_key(takes_set, "default", *takes_set.to_wire((set(order),), {})) for order in (words, words[::-1])
        }
        wire = takes_set.to_wire((set(words),), {})[0]
        assert call_key(takes_set, "default", [wire[0][::-1]], {}) in found
        assert len(found) == 1
        lists = [call_key(family.child, "default", [order], {}) for order in (words, words[::-1])]
        assert lists[0] != lists[1]

    async def test_what_a_task_leaves_running_submits_new_ones(self, family: Family) -> None:
        go, done = asyncio.Event(), asyncio.Event()
        ids = []

        async def later() -> None:
            await go.wait()
            ids.append((await family.child.submit(1)).id)
            done.set()

        async def parent() -> None:
            family.keep = asyncio.create_task(later())  # type: ignore[attr-defined]
            ids.append((await family.child.submit(1)).id)

        task = family.app.task(name="parent")(parent)
        async with assembled(family.app) as made:
            made.submit(task.name, task_id="p1")
            await made.ended("p1")
            go.set()
            await asyncio.wait_for(done.wait(), 10)
            await made.ended(*ids)
        assert ids[0] == Children("p1").id_for(b'["default","child",[1],{}]') != ids[1]

    async def test_a_submit_in_doubt_is_repeated_under_its_id(self, family: Family) -> None:
        async def parent() -> None:
            family_made[0].cluster.away.add(family_made[0].topic)
            for _ in range(2):
                try:
                    await family.child.submit(1)
                except Exception as error:
                    seen.append(error.task_id)  # type: ignore[attr-defined]
                family_made[0].cluster.away.clear()
            seen.append((await family.child.submit(1)).id)

        seen: list[str] = []
        family_made: list[Assembled] = []
        task = family.app.task(name="parent")(parent)
        async with assembled(family.app) as made:
            family_made.append(made)
            made.submit(task.name, task_id="p1")
            await made.ended("p1")
            await eventually(lambda: len(family.runs) == 2)
        assert len(seen) == 2
        assert seen[0] == Children("p1").id_for(b'["default","child",[1],{}]') != seen[1]


class TestChildren:
    def test_equal_calls_are_numbered_and_what_was_not_sent_comes_again_in_order(self) -> None:
        ids = [(one := Children("p")).id_for(b"x"), one.id_for(b"x"), one.id_for(b"x"), one.id_for(b"y")]
        assert len(set(ids)) == 4
        one.not_sent(ids[2])
        one.not_sent(ids[0])
        one.not_sent(ids[3])
        assert [one.id_for(b"x"), one.id_for(b"x"), one.id_for(b"y")] == [ids[0], ids[2], ids[3]]
        assert one.id_for(b"x") not in ids
        assert Children("q").id_for(b"x") not in ids
        one.not_sent("another")

    def test_a_great_many_are_told_apart_by_their_order(self) -> None:
        def all_of(parent: Children) -> list[str]:
            return [parent.id_for(b"%d" % n) for n in range(5)] + [parent.id_for(b"0"), parent.id_for(b"4")]

        found = all_of(Children("p", most=2))
        assert found == all_of(Children("p", most=2))
        assert len(set(found)) == 7

    def test_outside_of_a_task_there_are_none(self) -> None:
        assert children() is None
