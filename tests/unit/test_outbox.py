"""What must be in Kafka first: in order, many an append, kept through outages, and what depends on it once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.doubles import Sink
from tests.support.poll import eventually
from yadtq.delivery.outbox import Outbox
from yadtq.errors import BrokerRefused, BrokerUnavailable
from yadtq.runtime.seams import OutRecord
from yadtq.testing.doubles import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


def record(value: str) -> OutRecord:
    return OutRecord("t", value.encode())


class Answering(Sink):
    """answers: what the next appends are answered with, None: taken. A refused or doubtful record is not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Exception | None] = []

    async def append(self, records: Sequence[OutRecord]) -> None:
        error = self.answers.pop(0) if self.answers else None
        if error is None:
            await super().append(records)
            return
        self.calls += 1
        lost: set[int] = set()
        if isinstance(error, BrokerRefused):
            lost = set(error.refused)
        elif isinstance(error, BrokerUnavailable):
            lost = {*(range(len(records)) if error.uncertain is None else error.uncertain), *error.refused}
        if stored := [each for at, each in enumerate(records) if at not in lost]:
            self.batches.append(stored)
        raise error


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.producer = Answering()
        self.outbox = Outbox(producer=self.producer, clock=self.clock)
        self.done: list[str] = []

    def put(self, *values: str, instead: Callable[[str, bool], list[OutRecord] | None] | None = None) -> None:
        """An entry; it is noted as done under its values."""
        self.outbox.put([record(value) for value in values], lambda: self.done.append("".join(values)), instead)

    def stored(self) -> list[list[str]]:
        return [[(each.value or b"").decode() for each in batch] for batch in self.producer.batches]


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    run = asyncio.create_task(bench.outbox.run())
    yield
    bench.outbox.stop()
    await asyncio.wait_for(run, 5)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def drained(bench: Bench) -> None:
    await asyncio.wait_for(bench.outbox.drained(), 5)


async def test_in_the_order_of_put_many_entries_an_append(bench: Bench) -> None:
    for value in ("a", "b", "c"):
        bench.put(value)
    assert bench.done == [], "nothing happens before Kafka has it"
    async with running(bench):
        await drained(bench)
        assert bench.stored() == [["a", "b", "c"]]
        assert bench.done == ["a", "b", "c"]
        assert len(bench.outbox) == 0


async def test_an_entry_is_never_cut_in_two(bench: Bench) -> None:
    """An append that ends half-way must not let an entry happen of which a part is missing."""
    for name in "abc":
        bench.put(*(f"{name}{n}" for n in range(40)))
    bench.put(*(f"d{n}" for n in range(150)))
    async with running(bench):
        await drained(bench)
    assert [len(batch) for batch in bench.stored()] == [80, 40, 150]
    assert len(bench.done) == 4


async def test_an_entry_of_no_records_is_done(bench: Bench) -> None:
    bench.put()
    bench.put("a")
    async with running(bench):
        await drained(bench)
    assert bench.done == ["", "a"]


async def test_in_an_outage_all_is_kept_and_done_once(bench: Bench) -> None:
    bench.producer.down = True
    bench.put("a")
    async with running(bench):
        await eventually(lambda: bench.producer.calls >= 2)
        bench.put("b")
        assert (bench.done, len(bench.outbox)) == ([], 2)
        bench.producer.down = False
        await drained(bench)
        assert [each.value for each in bench.producer.appended] == [b"a", b"b"]
        assert bench.done == ["a", "b"]


async def test_only_what_is_in_doubt_goes_again(bench: Bench) -> None:
    bench.producer.answers = [BrokerUnavailable("half-way", uncertain=[2, 3])]
    bench.put("a0", "a1")
    bench.put("b0", "b1")
    bench.put("c")
    async with running(bench):
        await drained(bench)
    assert bench.stored() == [["a0", "a1", "c"], ["b0", "b1"]], "an entry goes again as a whole"
    assert bench.done == ["a0a1", "c", "b0b1"]


async def test_what_is_put_while_an_append_is_on_its_way_waits_for_the_next(bench: Bench) -> None:
    bench.outbox.put([record("a")], lambda: bench.put("b"))
    async with running(bench):
        await eventually(lambda: bench.done == ["b"])
        await drained(bench)
    assert bench.stored() == [["a"], ["b"]]


class TestRefused:
    async def test_something_else_may_go_instead(self, bench: Bench) -> None:
        asked: list[tuple[str, bool]] = []

        def instead(reason: str, too_large: bool) -> list[OutRecord]:
            asked.append((reason, too_large))
            return [record("small")]

        bench.producer.answers = [BrokerRefused("no", {1: "too large for it"}, [1])]
        bench.put("a")
        bench.put("large", instead=instead)
        async with running(bench):
            await drained(bench)
        assert asked == [("too large for it", True)]
        assert bench.stored() == [["a"], ["small"]]
        assert bench.done == ["a", "large"]

    async def test_or_it_is_dropped_and_nothing_happens(self, bench: Bench) -> None:
        bench.producer.answers = [BrokerRefused("no", {0: "forbidden"})]
        bench.put("a", instead=lambda _, __: None)
        async with running(bench):
            await drained(bench)
        assert (bench.stored(), bench.done, len(bench.outbox)) == ([], [], 0)

    async def test_otherwise_it_is_tried_again_slowly_and_keeps_nobody_waiting(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.producer.answers = [BrokerRefused("no", {0: "forbidden"})]
        bench.put("a")
        async with running(bench):
            await eventually(lambda: bench.producer.calls == 1)
            bench.put("b")
            await eventually(lambda: bench.done == ["b"])
            assert len(bench.outbox) == 1
            assert "forbidden" in caplog.text
            bench.clock.advance(10.0)
            bench.put("c")
            await drained(bench)
        assert bench.done == ["b", "c", "a"]

    async def test_a_drain_waits_for_it(self, bench: Bench) -> None:
        bench.producer.answers = [BrokerRefused("no", {0: "forbidden"})]
        bench.put("a")
        async with running(bench):
            await eventually(lambda: bench.producer.calls == 1)
            waiting = asyncio.create_task(bench.outbox.drained())
            done, _ = await asyncio.wait([waiting], timeout=0.05)
            assert not done
            waiting.cancel()
        assert bench.done == [], "what depends on it has not happened"


class TestStop:
    async def test_lets_all_be_appended(self, bench: Bench) -> None:
        bench.put("a")
        bench.outbox.stop()
        await asyncio.wait_for(bench.outbox.run(), 5)
        assert bench.done == ["a"]

    async def test_ends_at_the_first_failure_and_says_what_is_given_up(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.producer.down = True
        bench.put("a")
        bench.put("b")
        bench.outbox.stop()
        await asyncio.wait_for(bench.outbox.run(), 5)
        assert bench.done == []
        assert "2 entries" in caplog.text
        await drained(bench)

    async def test_an_idle_one_ends_at_once(self, bench: Bench) -> None:
        async with running(bench):
            await drained(bench)


async def test_an_outage_is_told_once_and_not_for_each_try(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.producer.answers = [BrokerUnavailable("no leader"), BrokerUnavailable("no leader"), None]
    bench.put("a")
    async with running(bench):
        await eventually(lambda: bench.done == ["a"])
    assert caplog.messages == ["Kafka, for the outbox, is away: no leader; calls are repeated until it answers"]
