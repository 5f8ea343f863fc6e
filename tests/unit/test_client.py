"""The client with doubles in place of its connections: what it refuses, what it leaves in doubt, and how it says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client_bench import ClientBench as Bench
from tests.support.poll import eventually
from yadtq import TaskHandle
from yadtq.errors import (
    ConfigError,
    InvalidArguments,
    PayloadTooLarge,
    StoreUnavailable,
    SubmitOverloaded,
    SubmitUncertain,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    UnknownTask,
)
from yadtq.store.tasks.verbs import Claim, Finish
from yadtq.wire.codec import decode
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from yadtq.client.client import Client
    from yadtq.runtime.seams import OutRecord


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[Client]:
    async with bench.client() as connected:
        yield connected


class TestSubmitting:
    async def test_the_record_is_the_documented_one(self, bench: Bench, client: Client) -> None:
        handle = await bench.work.options(retries=2, timeout=1.5).submit(1, text="a")
        (record,) = bench.sink.appended
        assert (record.topic, record.key, record.partition) == ("yadtq.t.tasks.default", None, None)
        value = decode(record.value or b"")
        assert value.pop("at") > 1_700_000_000
        args, kwargs = value.pop("args"), value.pop("kwargs")
        assert (args, kwargs) in (([1, "a"], {}), ([1], {"text": "a"}))
        assert value.pop("fingerprint") == bench.work.signature.fingerprint
        assert value == {"v": 1, "id": handle.id, "task": "work", "retries": 2, "timeout_s": 1.5}

    async def test_each_has_an_id_of_its_own_or_the_given_one(self, bench: Bench, client: Client) -> None:
        ids = {(await bench.work.submit(n)).id for n in range(20)}
        assert len(ids) == 20
        assert (await bench.work.options(task_id="mine").submit(1)).id == "mine"

    async def test_its_queue_is_provisioned_once(self, bench: Bench, client: Client) -> None:
        assert bench.kafka.provisioned == [{"default", "mail"}], "those of the app's tasks at the start"
        await asyncio.gather(*(bench.work.options(queue="new").submit(n) for n in range(5)))
        assert bench.kafka.provisioned[1:] == [{"new"}]
        assert {record.topic for record in bench.sink.appended} == {"yadtq.t.tasks.new"}

    async def test_queued_is_seen_by_whoever_submitted(self, bench: Bench, client: Client) -> None:
        handle = await bench.work.submit(1)
        assert await handle.status() is S.QUEUED

    async def test_submits_that_meet_share_a_batch(self, bench: Bench, client: Client) -> None:
        calls: list[int] = []
        append = bench.sink.append

        async def counted(records: Sequence[OutRecord]) -> None:
            calls.append(len(records))
            await append(records)

        bench.sink.append = counted  # type: ignore[method-assign]
        await client.submit_many(bench.work, [(n,) for n in range(5)])
        assert calls == [5]


class TestRefused:
    async def test_nothing_is_sent(self, bench: Bench, client: Client) -> None:
        with pytest.raises(InvalidArguments):
            await client.submit("work", "many")
        with pytest.raises(PayloadTooLarge) as large:
            await client.submit(bench.work, 1, "x" * 1_000)
        assert large.value.limit == 1_000 < large.value.size
        with pytest.raises(UnknownTask):
            await client.submit("wrok")
        with pytest.raises(ConfigError, match="task_id"):
            await bench.work.options(task_id="with space").submit(1)
        with pytest.raises(ConfigError, match="queue name"):
            await bench.work.options(queue="a b").submit(1)
        assert bench.sink.appended == []

    @pytest.mark.parametrize("bad", [("many",), (1, "x" * 1_000), {"n": 1, "z": 2}])
    async def test_of_many_all_are_looked_at_before_the_first_is_sent(
        self, bench: Bench, client: Client, bad: Any
    ) -> None:
        with pytest.raises((InvalidArguments, PayloadTooLarge)):
            await client.submit_many(bench.work, [(1,), {"n": 2}, bad])
        assert bench.sink.appended == []

    async def test_one_id_for_many(self, bench: Bench, client: Client) -> None:
        with pytest.raises(ConfigError, match="task_id"):
            await client.submit_many(bench.work.options(task_id="one"), [(1,)])

    async def test_while_redis_is_away(self, bench: Bench, client: Client) -> None:
        bench.store.down = True
        accepted = await bench.work.submit(1)
        with pytest.raises(StoreUnavailable):
            await accepted.status()
        with pytest.raises(StoreUnavailable, match="nothing was sent"):
            await bench.work.submit(2)
        assert bench.sink.ids() == [accepted.id]
        bench.store.down = False

        async def accepted_again() -> bool:
            return bool(await bench.work.submit(3))

        await eventually(accepted_again)
        assert await accepted.status() is S.QUEUED, "and what was accepted before is known"

    async def test_before_the_start_and_after_the_end(self, bench: Bench) -> None:
        async with bench.client() as client:
            with pytest.raises(ConfigError, match="once"):
                await client.start()
        with pytest.raises(ConfigError, match="not connected"):
            await client.submit(bench.work, 1)
        with pytest.raises(ConfigError, match="once"):
            await client.start()
        await client.close()


class TestInDoubt:
    async def test_it_says_which_id_to_submit_again(self, bench: Bench, client: Client) -> None:
        bench.sink.down = True
        with pytest.raises(SubmitUncertain, match="same id") as one:
            await bench.work.options(task_id="mine").submit(1)
        assert (one.value.task_id, one.value.task_ids) == ("mine", ["mine"])
        with pytest.raises(SubmitUncertain) as many:
            await client.submit_many(bench.work, [(n,) for n in range(3)])
        assert len(set(many.value.task_ids)) == 3
        bench.sink.down = False
        await bench.work.options(task_id="mine").submit(1)
        assert bench.sink.ids() == ["mine"]

    async def test_an_answer_that_does_not_come_is_not_waited_for(self, bench: Bench, client: Client) -> None:
        bench.sink.gate.clear()
        alone = asyncio.create_task(bench.work.options(task_id="first").submit(1))
        await asyncio.sleep(0)
        with pytest.raises(SubmitUncertain) as caught:
            async with asyncio.timeout(3):
                await client.submit_many(bench.work, [(2,)])
        assert len(caught.value.task_ids) == 1
        bench.sink.gate.set()
        await alone

    async def test_too_many_at_once_wait_and_are_refused(self, bench: Bench, client: Client) -> None:
        # Not by submits of its own: those would time out, and make room, in the moment in which this one is refused.
        admission = client._submitter._admission
        assert admission.enter_now(10)
        with pytest.raises(SubmitOverloaded, match="max_pending_submits is 10"):
            await bench.work.submit(99)
        admission.leave(10)
        assert (await bench.work.submit(100)).id in bench.sink.ids(), "room again"

    async def test_or_are_let_in_when_there_is_room(self, bench: Bench, client: Client) -> None:
        bench.sink.gate.clear()
        waiting = [asyncio.create_task(bench.work.submit(n)) for n in range(15)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert client._submitter._admission.pending == 10
        bench.sink.gate.set()
        await asyncio.gather(*waiting)
        assert client._submitter._admission.pending == 0
        assert len(set(bench.sink.ids())) == 15

    async def test_closing_tells_those_who_wait_for_room_and_lets_the_others_end(
        self, bench: Bench, client: Client
    ) -> None:
        bench.sink.gate.clear()
        inside = [asyncio.create_task(bench.work.submit(n)) for n in range(10)]
        await asyncio.sleep(0)
        outside = asyncio.create_task(bench.work.submit(10))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        with pytest.raises(ConfigError, match="not connected"):
            await outside
        assert not closing.done()
        bench.sink.gate.set()
        await closing
        assert [handle.id for handle in await asyncio.gather(*inside)] == bench.sink.ids()

    async def test_many_more_than_may_wait_go_in_rounds(self, bench: Bench, client: Client) -> None:
        handles = await client.submit_many(bench.work, [(n,) for n in range(57)])
        assert bench.sink.ids() == [handle.id for handle in handles]


class TestAsking:
    async def test_a_result_is_what_the_annotation_says(self, bench: Bench, client: Client) -> None:
        handle = await bench.work.submit(1)
        await bench.end(handle.id, S.SUCCESS, b"5")
        assert await handle.result() == await handle == 5
        assert await client.result(handle) == await client.result(handle.id) == 5

    async def test_a_failure_of_whatever_form(self, bench: Bench, client: Client) -> None:
        for task_id, payload, words in (
            ("a", b'{"type": "ValueError", "message": "no", "traceback": "tb"}', "attempt 3: ValueError: no"),
            ("b", b"not json", "unknown: not json"),
            ("c", b"[]", "unknown"),
        ):
            await bench.end(task_id, S.FAILED, payload, attempts=3)
            with pytest.raises(TaskFailed, match=words):
                await client.handle(task_id).result()
        await bench.end("d", S.CANCELLED)
        with pytest.raises(TaskCancelled):
            await client.result("d")

    async def test_a_time_out_is_not_the_end_of_the_task(self, bench: Bench, client: Client) -> None:
        handle = await bench.work.submit(1)
        with pytest.raises(TimeoutError, match=handle.id):
            await handle.result(timeout=0.01)
        await bench.end(handle.id, S.SUCCESS, b"1")
        assert await handle.result(timeout=1) == 1

    async def test_status_of_what_is_not_known(self, client: Client) -> None:
        with pytest.raises(TaskNotFound):
            await client.status("never")

    async def test_status_follows_the_store(self, bench: Bench, client: Client) -> None:
        handle = await bench.work.submit(1)
        await handle.status()
        await bench.store.tasks.claim("w", [Claim(handle.id, "n")], 0)
        assert await handle.status() is S.IN_PROGRESS
        await bench.store.tasks.finish([Finish(handle.id, "n", 1, S.SUCCESS, b"1")])
        assert await client.status(handle.id) is S.SUCCESS

    async def test_as_they_end_whatever_way(self, bench: Bench, client: Client) -> None:
        handles = [client.handle(each) for each in "abc"]
        completed = client.as_completed(handles, timeout=5)
        for task_id in "ca":
            await bench.end(task_id, S.SUCCESS, b"1")
            assert (await anext(completed)).id == task_id
        await bench.end("b", S.FAILED, b"{}")
        assert [handle.id async for handle in completed] == ["b"]
        with pytest.raises(TaskFailed):
            await handles[1].result()

    async def test_not_all_in_time(self, bench: Bench, client: Client) -> None:
        await bench.end("a", S.SUCCESS, b"1")
        completed = client.as_completed([client.handle("a"), client.handle("b")], timeout=0.05)
        assert (await anext(completed)).id == "a"
        with pytest.raises(TimeoutError, match="2 tasks"):
            await anext(completed)

    async def test_none_at_all(self, client: Client) -> None:
        none: list[TaskHandle[int]] = []
        assert [handle async for handle in client.as_completed(none)] == []
