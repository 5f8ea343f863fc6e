"""From outcome to final state: Redis first, then the offset; nothing is thrown away for an outage."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import bring, make_attempt, make_delivery
from tests.support.doubles import Sink
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq.delivery.completer import Completer
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.place import Place
from yadtq.delivery.sequels import Endings
from yadtq.delivery.turns.partitions import PartitionTurns
from yadtq.delivery.waiting import WaitingRoom
from yadtq.errors import StoreUnavailable
from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome
from yadtq.settings import Settings
from yadtq.store.tasks.memory import MemoryTasks
from yadtq.store.tasks.verbs import WAIT, Claim, Finish, Snapshot
from yadtq.testing.doubles import ManualClock, MemoryStore
from yadtq.wire.states import TaskStatus as S
from yadtq.worker.facts import Counters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from yadtq.execution.attempt import Attempt

ME, OTHER = "me", "other"


class Watched(MemoryTasks):
    """Notes which offsets were done when a finish came in. `lose_answers`: finishes that are stored, then not answered."""

    lose_answers = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.batches: list[list[Finish]] = []
        self.attempts: list[Attempt] = []
        self.done_too_early = False

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        self.batches.append(list(finishes))
        accepted = await super().finish(finishes)
        nonces = {finish.nonce for finish in finishes}
        sent = [attempt for attempt in self.attempts if attempt.nonce in nonces]
        self.done_too_early |= any(attempt.origin.source.watermark > 0 for attempt in sent)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("no answer")
        return accepted


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        settings = Settings.load(result_ttl_s=100)
        self.store = MemoryStore(self.clock, random.Random(0), settings)
        self.watched = Watched(self.store.server, self.store.deaths, settings)
        self.store.tasks = self.watched
        self.room = WaitingRoom(clock=self.clock, turns=PartitionTurns())
        self.counters = Counters()
        self.woken = 0
        self.completer = Completer(
            outside=memory_outside(clock=self.clock, store=self.store),
            room=self.room,
            endings=Endings(outbox=Outbox(producer=Sink(), clock=self.clock)),
            restorable_s=settings.result_ttl_s / 2,
            listener=self.counters,
            on_settled=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def claimed(self, task_id: str = "a") -> Attempt:
        """An attempt that runs under its lease."""
        delivery = make_delivery(task_id=task_id)
        delivery.nonce = f"nonce-{task_id}"
        (reply,) = await self.store.tasks.claim(ME, [Claim(task_id, delivery.nonce)], 0)
        assert reply.verdict > 0
        attempt = make_attempt(of=delivery, number=reply.verdict, lease_at=self.clock.monotonic())
        bring(delivery, Place.RUNNING)
        self.watched.attempts.append(attempt)
        return attempt

    async def taken_over(self, attempt: Attempt, *, end: S | None = S.SUCCESS) -> None:
        """Its lease ends, another has it, and may be through with it."""
        self.clock.advance(60)
        claim = Claim(attempt.envelope.id, "theirs")
        (reply,) = await self.store.tasks.claim(OTHER, [claim], 1)
        if end is not None:
            await MemoryTasks.finish(self.watched, [Finish(claim.task_id, "theirs", reply.verdict, end, b'"theirs"')])

    async def status(self, task_id: str = "a") -> Snapshot | None:
        found = (await self.store.tasks.snapshots([task_id]))[0]
        assert found is None or isinstance(found, Snapshot)
        return found


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(Bench()) as made:
        yield made


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    run = asyncio.create_task(bench.completer.run())
    yield bench
    bench.store.down = False
    bench.completer.stop()
    await asyncio.wait_for(run, 5)
    assert not bench.watched.done_too_early, "an offset was done before its outcome was stored"


@pytest.mark.parametrize(("status", "counter"), [(S.SUCCESS, "succeeded"), (S.FAILED, "failed")])
async def test_a_final_outcome_is_stored_and_then_its_offset_is_done(bench: Bench, status: S, counter: str) -> None:
    attempt = await bench.claimed()
    bench.completer.put(Outcome(attempt, status, b'"mine"'))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert await bench.status() == Snapshot(status, 1, b'"mine"')
    assert attempt.origin.source.watermark == 1
    assert getattr(bench.counters, counter) == 1
    assert bench.room.parked == 0


async def test_outcomes_that_meet_leave_in_one_batch(bench: Bench) -> None:
    attempts = [await bench.claimed(f"t{n}") for n in range(600)]
    for attempt in attempts:
        bench.completer.put(Outcome(attempt, S.SUCCESS))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert [len(batch) for batch in bench.watched.batches] == [500, 100]


async def test_a_retry_keeps_its_offset_and_waits_with_a_new_nonce(bench: Bench) -> None:
    attempt = await bench.claimed()
    delivery = attempt.origin
    bench.completer.put(Outcome(attempt, S.RETRYING, b'"e"', 2.5))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert delivery.source.watermark == 0
    assert delivery.nonce == "", "the next claim draws one of its own"
    assert bench.room.next_due() == bench.clock.monotonic() + 2.5
    assert bench.woken, "the claimer has to look at the time again"
    bench.clock.advance(2.5)
    assert bench.room.take(1) == [delivery]
    (reply,) = await bench.store.tasks.claim(ME, [Claim("a", "next")], 0)
    assert (reply.verdict, reply.failures) == (2, 1)


async def test_a_fenced_outcome_leaves_the_offset_until_the_next_claim_has_told(bench: Bench) -> None:
    attempt = await bench.claimed()
    await bench.taken_over(attempt, end=None)
    bench.completer.put(Outcome(attempt, S.SUCCESS, b'"stale"'))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert bench.counters.fenced == 1
    assert attempt.origin.source.watermark == 0, "the other attempt can still be lost"
    assert bench.room.take(1) == [attempt.origin]
    (reply,) = await bench.store.tasks.claim(ME, [Claim("a", "next")], 0)
    assert reply.verdict == WAIT
    assert await bench.status() == Snapshot(S.IN_PROGRESS, 2, b"")


async def test_a_stale_result_never_overwrites_a_newer_one(bench: Bench) -> None:
    attempt = await bench.claimed()
    await bench.taken_over(attempt)
    bench.completer.put(Outcome(attempt, S.FAILED, b'"stale"'))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert await bench.status() == Snapshot(S.SUCCESS, 2, b'"theirs"')


async def test_in_an_outage_outcomes_are_kept_and_sent_until_they_are_stored(bench: Bench) -> None:
    first, second = await bench.claimed("a"), await bench.claimed("b")
    bench.store.down = True
    bench.completer.put(Outcome(first, S.SUCCESS, b"1"))
    await eventually(lambda: len(bench.watched.batches) >= 2)
    bench.completer.put(Outcome(second, S.SUCCESS, b"2"))
    settled = asyncio.create_task(bench.completer.drained())
    await eventually(lambda: len(bench.watched.batches[-1]) == 2)
    assert not settled.done()
    assert first.origin.source.watermark == second.origin.source.watermark == 0
    bench.store.down = False
    await asyncio.wait_for(settled, 3)
    assert [(await bench.status(each)).payload for each in "ab"] == [b"1", b"2"]  # type: ignore[union-attr]
    assert first.origin.source.watermark == second.origin.source.watermark == 1
    assert bench.counters.succeeded == 2


async def test_a_finish_whose_answer_was_lost_is_accepted_again(bench: Bench) -> None:
    attempt = await bench.claimed()
    bench.watched.lose_answers = 2
    bench.completer.put(Outcome(attempt, S.SUCCESS, b"1"))
    await asyncio.wait_for(bench.completer.drained(), 3)
    assert (bench.counters.succeeded, bench.counters.fenced) == (1, 0)
    assert attempt.origin.source.watermark == 1


async def test_a_finish_survives_the_loss_of_all_data(bench: Bench) -> None:
    attempt = await bench.claimed()
    bench.store.flush()
    bench.completer.put(Outcome(attempt, S.SUCCESS, b"1"))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert await bench.status() == Snapshot(S.SUCCESS, 1, b"1")


async def test_but_not_of_a_lease_that_was_last_seen_so_long_ago_that_another_result_may_have_expired(
    bench: Bench,
) -> None:
    attempt = await bench.claimed()
    bench.clock.advance(51)  # of 100 s that results are kept
    bench.store.flush()
    bench.completer.put(Outcome(attempt, S.SUCCESS, b"1"))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert await bench.status() is None
    assert bench.counters.fenced == 1
    assert bench.room.take(1) == [attempt.origin]


async def test_a_shutdown_gives_the_lease_back_and_says_nothing_of_the_task(bench: Bench) -> None:
    attempt = await bench.claimed()
    attempt.stop = StopReason.SHUTDOWN
    bench.completer.put(Outcome(attempt, None))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert await bench.status() == Snapshot(S.QUEUED, 1, b"")
    assert attempt.origin.source.watermark == 0
    (reply,) = await bench.store.tasks.claim(OTHER, [Claim("a", "theirs")], 1)
    assert (reply.verdict, reply.crashes) == (2, 0)


async def test_a_lost_lease_is_not_given_back_for_it_is_anothers(bench: Bench) -> None:
    attempt = await bench.claimed()
    await bench.taken_over(attempt, end=None)
    attempt.stop = StopReason.LEASE_LOST
    bench.completer.put(Outcome(attempt, None))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert await bench.status() == Snapshot(S.IN_PROGRESS, 2, b"")
    assert bench.room.take(1) == [attempt.origin]
    assert attempt.origin.nonce == "", "the next attempt is another one"


async def test_the_end_of_a_task_frees_its_doubles(bench: Bench) -> None:
    attempt = await bench.claimed()
    double = make_delivery(task_id="a")
    bring(double, Place.CLAIMING)
    bench.room.hold(double, "a")
    bench.completer.put(Outcome(attempt, S.SUCCESS))
    await asyncio.wait_for(bench.completer.drained(), 2)
    assert bench.room.take(1) == [double]
    assert bench.woken


async def test_stop_lets_everything_be_stored(bench: Bench) -> None:
    attempt = await bench.claimed()
    bench.completer.put(Outcome(attempt, S.SUCCESS))
    bench.completer.stop()
    await asyncio.wait_for(bench.completer.drained(), 3)
    assert attempt.origin.source.watermark == 1


async def test_a_stop_while_redis_is_away_ends_and_leaves_the_record_to_others() -> None:
    bench = Bench()
    attempt = await bench.claimed()
    bench.store.down = True
    bench.completer.put(Outcome(attempt, S.SUCCESS))
    run = asyncio.create_task(bench.completer.run())
    await eventually(lambda: len(bench.watched.batches) == 2)
    assert not run.done(), "before the stop it tries for as long as it takes"
    bench.completer.stop()
    await asyncio.wait_for(run, 3)
    assert attempt.origin.source.watermark == 0
