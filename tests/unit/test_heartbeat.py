"""What a worker says of itself carries a seal that only its supervisor can check."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.poll import eventually
from tests.support.supervision import HeartbeatTopic
from yadtq.outside import Outside, Place
from yadtq.runtime.clock import SystemClock
from yadtq.store.memory import MemoryStore
from yadtq.wire.exits import describe_exit
from yadtq.wire.heartbeat import Heartbeat, is_sealed_with, seal
from yadtq.wire.inherited import Inherited
from yadtq.wire.names import TopicNames
from yadtq.worker.facts import WorkerFacts
from yadtq.worker.heartbeat import Heart, Identity
from yadtq.worker.machine import Machine
from yadtq.worker.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.runtime.seams import OutRecord

FACTS = WorkerFacts(running=(), partitions={}, parked=0, succeeded=0, failed=0, retried=0, fenced=0, store="1")


class Away(HeartbeatTopic):
    """Kafka is away."""

    def __init__(self) -> None:
        super().__init__()
        self.down = True
        self.tries = 0

    async def append(self, records: Sequence[OutRecord]) -> None:
        self.tries += 1
        await super().append(records)


async def test_in_an_outage_of_kafka_the_log_has_one_line_and_not_one_for_each_beat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = Away()
    heart = make_heart(Identity("w", None, ("default",), 1), topic)
    async with anyio.create_task_group() as group:
        await group.start(heart.run)
        await eventually(lambda: topic.tries > 20, what="beats that failed")
        heart.stop()
    assert [line for line in caplog.messages if "away" in line] == [
        "Kafka, for heartbeats, is away: down; calls are repeated until it answers"
    ]
    assert len(caplog.messages) == 1


async def beats_of(identity: Identity) -> list[OutRecord]:
    topic = HeartbeatTopic()
    heart = make_heart(identity, topic)
    async with anyio.create_task_group() as group:
        await group.start(heart.run)
        await eventually(lambda: len(topic.records) > 3, what="beats")
        heart.stop()
    return topic.records


def make_heart(identity: Identity, topic: HeartbeatTopic) -> Heart:
    clock, chance = SystemClock(), random.Random(1)
    outside = Outside(
        broker=topic,  # type: ignore[arg-type]
        store=MemoryStore(clock, chance),
        clock=clock,
        chance=chance,
        names=TopicNames("shop"),
        place=Place("host", 7),
    )
    return Heart(
        identity=identity,
        facts=lambda: FACTS,
        outside=outside,
        machine=Machine(parent=Parent()),
        producer=topic,
        interval_s=0.01,
    )


async def test_each_beat_of_a_supervised_worker_is_sealed_and_newer() -> None:
    identity = Identity("w", "host.shop.slot-0", ("default",), 1, supervisor="1-a", secret="s3cret")
    records = await beats_of(identity)
    beats = [Heartbeat.decode(record.value) for record in records]
    assert all(is_sealed_with("s3cret", record.value, record.headers) for record in records)
    assert [beat.seq for beat in beats] == list(range(1, len(beats) + 1))
    assert {beat.supervisor for beat in beats} == {"1-a"}
    assert b"s3cret" not in b"".join(record.value or b"" for record in records)
    assert "s3cret" not in repr(identity)


async def test_without_a_supervisor_there_is_no_seal() -> None:
    records = await beats_of(Identity("w", None, ("default",), 1))
    assert [record.headers for record in records] == [()] * len(records)


@given(st.binary(max_size=50), st.text(max_size=20), st.binary(max_size=70))
def test_only_the_secret_opens_the_seal(value: bytes, secret: str, forged: bytes) -> None:
    headers = seal(value, secret)
    assert is_sealed_with(secret, value, headers) is bool(secret)
    assert not is_sealed_with(f"{secret}x", value, headers)
    assert not is_sealed_with(secret, value + b"x", headers)
    assert not is_sealed_with(secret, value, [*headers, *headers])
    assert not is_sealed_with(secret, value, [("seal", forged)])


@given(st.text(min_size=1, max_size=64).filter(lambda text: text.isascii() and "\0" not in text))
def test_what_is_inherited_is_taken_out_of_the_environment(secret: str) -> None:
    given = Inherited("slot", "worker", "1-a", secret, "5", "6,7")
    environ = {"HOME": "/", **given.environment()}
    assert Inherited.take(environ) == given
    assert environ == {"HOME": "/"}
    assert Inherited.take(environ) == Inherited()
    assert repr(given) == "<Inherited worker>"


@pytest.mark.parametrize(("code", "words"), [(-9, "signal 9"), (0, "exit 0"), (70, "exit 70")])
def test_exit_codes_have_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
