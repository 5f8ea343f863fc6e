"""Claimed and not to be run: first the dead letter in Kafka, then FAILED; meanwhile a lease and no slot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import bring, make_attempt
from tests.support.doubles import Sink
from tests.support.execution import error_of
from yadtq import Yadtq
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.place import Place
from yadtq.delivery.unrunnable import Unrunnable
from yadtq.errors import BrokerRefused
from yadtq.execution.attempt import StopReason
from yadtq.testing.doubles import ManualClock
from yadtq.wire.deadletter import DEAD_LETTER_HEADERS, DeadReason
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.outcome import Outcome
    from yadtq.runtime.seams import OutRecord

DEAD = "yadtq.t.dead"
app = Yadtq("t")


@app.task
async def work() -> None: ...


class Bench:
    def __init__(self) -> None:
        self.producer = Sink()
        self.clock = ManualClock(time=1_000.5)
        self.outbox = Outbox(producer=self.producer, clock=self.clock)
        self.outcomes: list[Outcome] = []
        self.unrunnable = Unrunnable(
            dead_letters=DeadLetters(topic=DEAD, worker_id="w", outbox=self.outbox, clock=self.clock),
            on_outcome=self.end,
            app="t",
            crash_limit=3,
        )

    def end(self, outcome: Outcome) -> None:
        bring(outcome.attempt.origin, Place.STORING)
        self.outcomes.append(outcome)

    async def append(self) -> None:
        """All that the outbox holds, or one failure."""
        self.outbox.stop()
        await self.outbox.run()

    def headers(self) -> dict[str, str]:
        (letter,) = self.producer.appended
        return {name: value.decode() for name, value in letter.headers}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_unknown_name(bench: Bench) -> None:
    attempt = make_attempt(None, name="nobody", task_id="me")
    assert bench.unrunnable.takes(attempt)
    await bench.append()
    (outcome,) = bench.outcomes
    assert (outcome.attempt, outcome.status) == (attempt, S.FAILED)
    assert error_of(outcome)["type"] == "UnknownTask"
    assert "'nobody'" in error_of(outcome)["message"]
    headers = bench.headers()
    assert (headers["yadtq-reason"], headers["yadtq-task-id"], headers["yadtq-task"]) == (
        "unknown-task",
        "me",
        "nobody",
    )


async def test_the_letter_is_the_record_with_headers_that_say_where_from_and_why(bench: Bench) -> None:
    attempt = make_attempt(None, name="nobody")
    record = attempt.origin.record
    record.key, record.headers, record.timestamp = b"k", [("trace", b"1")], 12
    bench.unrunnable.takes(attempt)
    await bench.append()
    (letter,) = bench.producer.appended
    assert (letter.topic, letter.value, letter.key) == (DEAD, record.value, b"k")
    headers = bench.headers()
    assert headers["trace"] == "1"
    assert set(headers) - {"trace"} <= set(DEAD_LETTER_HEADERS)
    assert headers["yadtq-detail"]
    assert {
        name: headers[f"yadtq-{name}"] for name in ("topic", "partition", "offset", "timestamp", "worker", "at")
    } == {
        "topic": "yadtq.t.tasks.default",
        "partition": "0",
        "offset": "0",
        "timestamp": "12",
        "worker": "w",
        "at": "1000500",
    }


async def test_a_task_that_has_ended_so_many_workers_is_not_run_again(bench: Bench) -> None:
    assert bench.unrunnable.takes(make_attempt(work, crashes=3))
    await bench.append()
    (outcome,) = bench.outcomes
    assert (outcome.status, error_of(outcome)["type"]) == (S.FAILED, "WorkerCrashed")
    assert bench.headers()["yadtq-reason"] == "crashed"


def test_one_crash_less_and_it_may_run(bench: Bench) -> None:
    attempt = make_attempt(work, crashes=2)
    assert not bench.unrunnable.takes(attempt)
    assert attempt.origin.place is Place.CLAIMING
    assert (bench.unrunnable.attempts, len(bench.outbox)) == ({}, 0)


async def test_one_whose_state_is_damaged(bench: Bench) -> None:
    bench.unrunnable.end(make_attempt(work), DeadReason.CORRUPT_STATE, "can't be read")
    await bench.append()
    assert (bench.outcomes[0].status, bench.headers()["yadtq-detail"]) == (S.FAILED, "can't be read")


async def test_the_letter_waits_for_kafka_and_the_outcome_for_the_letter(bench: Bench) -> None:
    bench.producer.down = True
    attempt = make_attempt(None)
    bench.unrunnable.takes(attempt)
    await bench.append()
    assert bench.outcomes == []
    assert list(bench.unrunnable.attempts.values()) == [attempt], "its lease is kept meanwhile"
    assert attempt.origin.place is Place.OUTBOX
    bench.producer.down = False
    await bench.append()
    assert [outcome.attempt for outcome in bench.outcomes] == [attempt]
    assert bench.unrunnable.attempts == {}


async def test_two_attempts_of_one_task_both_end(bench: Bench) -> None:
    """The lease of the first was lost; each of them has a record of its own to let go."""
    first, second = (make_attempt(None, task_id="same", number=number) for number in (1, 2))
    for attempt in (first, second):
        bench.unrunnable.takes(attempt)
    assert list(bench.unrunnable.attempts.values()) == [first, second]
    await bench.append()
    assert [outcome.attempt for outcome in bench.outcomes] == [first, second]
    assert bench.unrunnable.attempts == {}


async def test_a_letter_that_is_too_large_goes_cut(bench: Bench) -> None:
    attempt = make_attempt(None)
    delivery: Delivery = attempt.origin
    delivery.record.value = b"x" * 300_000
    taken = bench.producer.append

    async def limited(records: Sequence[OutRecord]) -> None:
        if any(len(record.value or b"") > 200_000 for record in records):
            raise BrokerRefused("too large", {0: "too large"}, [0])
        await taken(records)

    bench.producer.append = limited  # type: ignore[method-assign]
    bench.unrunnable.takes(attempt)
    await bench.append()
    (letter,) = bench.producer.appended
    assert letter.value == b"x" * 100_000
    assert bench.headers()["yadtq-size"] == "300000"
    assert len(bench.headers()["yadtq-sha256"]) == 64
    assert len(bench.outcomes) == 1


class TestDrain:
    async def test_waits_for_the_last_of_them(self, bench: Bench) -> None:
        await asyncio.wait_for(bench.unrunnable.drained(), 1)
        bench.unrunnable.takes(make_attempt(None))
        bench.unrunnable.takes(make_attempt(None))
        drained = asyncio.create_task(bench.unrunnable.drained())
        await asyncio.sleep(0)
        assert not drained.done()
        await bench.append()
        await asyncio.wait_for(drained, 1)

    async def test_in_a_hurry_leases_are_given_back_and_a_late_letter_changes_nothing(self, bench: Bench) -> None:
        attempt = make_attempt(None)
        bench.unrunnable.takes(attempt)
        bench.unrunnable.hurry()
        await asyncio.wait_for(bench.unrunnable.drained(), 1)
        (outcome,) = bench.outcomes
        assert (outcome.attempt, outcome.status, attempt.stop) == (attempt, None, StopReason.SHUTDOWN)
        await bench.append()
        assert len(bench.outcomes) == 1
        assert len(bench.producer.appended) == 1
