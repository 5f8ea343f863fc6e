"""A poison record ends in the dead-letter topic, whole and with the reason; its neighbours finish (G6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import all_committed, make_app, make_value, running
from tests.support.poll import eventually
from yadtq.broker.producer import KafkaProducer
from yadtq.broker.tail import read_recent
from yadtq.errors import TaskFailed
from yadtq.runtime.seams import OutRecord

if TYPE_CHECKING:
    from tests.support.stacks import Servers

POISON = [b"\xff\xfe\x00", b"", None, b"[]", b'{"v": 1, "id": "x"}', b'{"v": 9, "id": "x", "task": "work"}', b'"' * 9]


@pytest.mark.smoke
async def test_undecodable_and_unknown_records_beside_good_ones(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, num_partitions=2)

    @app.task
    async def work(n: int) -> int:
        return n

    topic, dead = f"yadtq.{app_name}.tasks.default", f"yadtq.{app_name}.dead"
    async with app.client() as client:
        producer = KafkaProducer(app.settings)
        await producer.start()
        records = []
        for n, value in enumerate(POISON):
            records.append(OutRecord(topic, value, key=b"key%d" % n, partition=n % 2, headers=[("mine", b"%d" % n)]))
            records.append(OutRecord(topic, make_value("work", f"good{n}", args=[n]), partition=n % 2))
        unknown = make_value("nobody", "unknown1", args=[1])
        records.append(OutRecord(topic, unknown, partition=0))
        records.append(OutRecord(topic, make_value("work", "bad-args", args=["many"]), partition=1))
        await producer.append(records)
        async with running(app, unknown_task_window_s=0.2):
            for n in range(len(POISON)):
                assert await client.handle(f"good{n}").result(timeout=20) == n
            with pytest.raises(TaskFailed, match="UnknownTask"):
                await client.handle("unknown1").result(timeout=20)
            with pytest.raises(TaskFailed, match="InvalidArguments"):
                await client.handle("bad-args").result(timeout=20)
            await eventually(lambda: all_committed(stack, app_name), timeout=15, interval=0.2)
        await producer.stop()

    letters = await read_recent(app.settings, dead, 600, 10)
    assert len(letters) == len(POISON) + 1
    by_offset = {
        (dict(letter.headers)["yadtq-partition"], dict(letter.headers)["yadtq-offset"]): letter for letter in letters
    }
    places = dict.fromkeys((b"0", b"1"), 0)
    for record in records:
        partition = str(record.partition).encode()
        letter = by_offset.get((partition, str(places[partition]).encode()))
        places[partition] += 1
        if record.value in POISON:
            assert letter is not None, record
            assert (letter.key, letter.value) == (record.key, record.value)
            headers = dict(letter.headers)
            assert headers["mine"] == dict(record.headers)["mine"]
            assert headers["yadtq-reason"] == b"undecodable"
            assert headers["yadtq-topic"] == topic.encode()
        elif record.value == unknown:
            assert letter is not None
            headers = dict(letter.headers)
            assert letter.value == unknown
            assert (headers["yadtq-reason"], headers["yadtq-task-id"], headers["yadtq-task"]) == (
                b"unknown-task",
                b"unknown1",
                b"nobody",
            )
        else:
            assert letter is None


async def test_a_new_worker_that_knows_the_task_in_time_runs_it(stack: Servers, app_name: str) -> None:
    old, new = make_app(stack, app_name, num_partitions=1), make_app(stack, app_name, num_partitions=1)

    @new.task
    async def novelty() -> str:
        return "deployed"

    async with old.client() as client:
        handle = await client.submit("novelty")
        async with running(old, unknown_task_window_s=20) as worker:
            await eventually(lambda: worker.parts.room.parked == 1, timeout=10)
        async with running(new):
            assert await handle.result(timeout=20) == "deployed"
    assert await read_recent(old.settings, f"yadtq.{app_name}.dead", 600, 10) == []
