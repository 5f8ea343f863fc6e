"""From waiting to running: which claims are sent, and what each verdict leads to."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_delivery
from tests.support.doubles import Sink
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.delivery.claimer import Claimer, Destinations
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.gates.suspects import SuspectGate
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.place import Place
from yadtq.delivery.sequels import Endings
from yadtq.delivery.tracker import PartitionTracker
from yadtq.delivery.turns.partitions import PartitionTurns
from yadtq.delivery.unrunnable import Unrunnable
from yadtq.delivery.waiting import WaitingRoom
from yadtq.execution.attempt import StopReason
from yadtq.execution.calls import Calls
from yadtq.execution.executor import Executor
from yadtq.execution.limits import Limits
from yadtq.execution.quarantine.quarantine import Unconfined
from yadtq.execution.runners.loop import LoopRunner
from yadtq.execution.runners.threads import ThreadRunner
from yadtq.execution.slots import Slots
from yadtq.settings import Settings
from yadtq.store.tasks.memory import MemoryTasks
from yadtq.store.tasks.verbs import Claim, ClaimReply, Finish, Lease, Snapshot
from yadtq.testing.doubles import ManualClock, MemoryStore
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.outcome import Outcome

ME, OTHER = "me", "other"


class Watched(MemoryTasks):
    """Keeps the claims it gets. `lose_answers`: so many claims are made and then answered by an outage."""

    lose_answers = 0
    most_at_once = 0
    at_once = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[tuple[list[Claim], int]] = []

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        if worker == ME:
            self.asked.append((list(claims), suspects))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            replies = await super().claim(worker, claims, suspects)
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if self.lose_answers:
            self.lose_answers -= 1
            self._server.down = True
            await self._server.reach()
        return replies


class Bench:
    def __init__(self, concurrency: int) -> None:
        self.clock = ManualClock()
        settings = Settings.load(lease_s=7)
        self.store = MemoryStore(self.clock, random.Random(0), settings)
        self.watched = Watched(self.store.server, self.store.deaths, settings)
        self.store.tasks = self.watched
        outside = memory_outside(clock=self.clock, store=self.store)
        self.room = WaitingRoom(clock=self.clock, turns=PartitionTurns())
        self.outcomes: list[Outcome] = []
        limits = Limits(self.clock)
        calls = Calls(
            app="t",
            worker_id=ME,
            max_result_bytes=1_000,
            loop=LoopRunner(limits),
            threads=ThreadRunner(1, limits),
        )
        self.slots = Slots(concurrency)
        self.executor = Executor(outside=outside, slots=self.slots, calls=calls, on_outcome=self._end)
        outbox = Outbox(producer=Sink(), clock=self.clock)
        self.unrunnable = Unrunnable(
            dead_letters=DeadLetters(topic="yadtq.t.dead", worker_id=ME, outbox=outbox, clock=self.clock),
            on_outcome=self.outcomes.append,
            app="t",
            crash_limit=25,
        )
        self.suspects = SuspectGate(Unconfined())
        self.claimer = Claimer(
            worker_id=ME,
            outside=outside,
            room=self.room,
            to=Destinations(self.executor, self.unrunnable, Endings(outbox=outbox), self.suspects),
        )
        self.open = asyncio.Event()
        self.ran: list[str] = []

        @Yadtq("t").task
        async def work(name: str) -> None:
            self.ran.append(name)
            await self.open.wait()

        self.task = work

    def _end(self, outcome: Outcome) -> None:
        self.room.came_back(outcome.attempt.origin)
        self.outcomes.append(outcome)
        self.claimer.wake()

    def make(self, *names: str) -> list[Delivery]:
        """Of one partition."""
        tracker: PartitionTracker[Delivery] = PartitionTracker(0)
        return [make_delivery(self.task, name, task_id=name, tracker=tracker) for name in names]

    def offer(self, *deliveries: Delivery) -> None:
        self.room.add(deliveries)
        self.claimer.wake()

    def due_in(self) -> float:
        """Seconds until a parked one is looked at again; 0 if none is parked."""
        due = self.room.next_due()
        return 0.0 if due is None else due - self.clock.monotonic()

    def shape(self, task_id: str) -> tuple[int, int, int]:
        """Number, crashes and failures of the attempt that runs."""
        attempt = self.executor.running[task_id]
        return attempt.number, attempt.crashes, attempt.failures

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def crash(self, name: str, times: int) -> None:
        """So often has the task ended its worker."""
        for n in range(times):
            worker = f"victim{n}-{name}"
            await self.store.tasks.claim(worker, [Claim(name, f"{n}{name}")], 1)
            await self.store.deaths.bury(worker)


def watermark(delivery: Delivery) -> int:
    assert isinstance(delivery.source, PartitionTracker)
    return delivery.source.watermark


@asynccontextmanager
async def bench_with(concurrency: int) -> AsyncIterator[Bench]:
    made = Bench(concurrency)
    running = asyncio.create_task(made.claimer.run())
    yield made
    made.claimer.stop()
    made.open.set()
    made.store.down = False
    await asyncio.wait_for(running, 5)
    await asyncio.wait_for(made.slots.idle(), 5)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with bench_with(10) as made:
        yield made


async def test_what_is_granted_runs_with_its_attempt_and_nonce(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    bench.offer(delivery)
    await eventually(lambda: bench.ran == ["a"])
    assert bench.watched.asked == [([Claim("a", delivery.nonce, delivery.home)], 0)]
    (attempt,) = bench.executor.running.values()
    assert (attempt.origin, attempt.envelope, attempt.number) == (delivery, delivery.envelope, 1)
    assert (attempt.nonce, attempt.lease_at) == (delivery.nonce, bench.clock.monotonic())


async def test_never_more_than_there_are_slots_two_halves_at_once(bench: Bench) -> None:
    bench.offer(*bench.make(*(f"t{n}" for n in range(25))))
    await eventually(lambda: len(bench.ran) == 10)
    await bench.settle()
    assert [len(claims) for claims, _ in bench.watched.asked] == [5, 5]
    assert bench.watched.most_at_once == 2
    assert bench.slots.free == 0
    bench.open.set()
    await eventually(lambda: len(bench.ran) == 25)
    assert bench.ran == [f"t{n}" for n in range(25)], "first come, first run"


async def test_one_slot_is_enough(bench: Bench) -> None:
    async with bench_with(1) as bench:
        bench.open.set()
        bench.offer(*bench.make("a", "b", "c"))
        await eventually(lambda: bench.ran == ["a", "b", "c"])


async def test_a_final_task_is_done_without_a_run(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    await bench.store.tasks.claim(OTHER, [Claim("a", "n")], 0)
    await bench.store.tasks.finish([Finish("a", "n", 1, S.SUCCESS)])
    bench.offer(delivery)
    await eventually(lambda: watermark(delivery) == 1)
    assert (bench.ran, bench.slots.free, bench.room.parked) == ([], 10, 0)


async def test_a_leased_task_is_parked_and_taken_over_when_its_lease_ends(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    await bench.store.tasks.claim(OTHER, [Claim("a", "n")], 0)
    bench.clock.advance(4)
    bench.offer(delivery)
    await eventually(lambda: bench.room.parked == 1)
    assert (bench.slots.free, watermark(delivery)) == (10, 0), "no slot, and the record is not done"
    for _ in range(4):
        bench.clock.advance(bench.due_in() + 1e-6)
        bench.claimer.wake()
        await eventually(lambda: bench.room.parked == 1 and bench.due_in() > 0)
    assert bench.due_in() == pytest.approx(3.0 - 0.1 - 0.2 - 0.4 - 0.8 + 0.005, abs=1e-3), (
        "not after the end of its lease"
    )
    bench.clock.advance(bench.due_in() + 1e-6)
    bench.claimer.wake()
    await eventually(lambda: bench.ran == ["a"])
    assert bench.shape("a") == (2, 1, 0)


async def test_a_lease_is_asked_about_soon_and_then_ever_more_seldom(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    await bench.store.tasks.claim(OTHER, [Claim("a", "n")], 0)
    bench.offer(delivery)
    waits: list[float] = []
    for _ in range(8):
        await eventually(lambda: bench.room.parked == 1 and bench.due_in() > 0)
        waits.append(bench.due_in())
        bench.clock.advance(waits[-1] + 1e-6)  # floats: a hair short of its time is not its time
        await bench.store.tasks.renew(OTHER, [Lease("a", "n", 1, False)])
        bench.claimer.wake()
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


async def test_a_retry_is_not_claimed_before_it_is_due(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    await bench.store.tasks.claim(OTHER, [Claim("a", "n")], 0)
    await bench.store.tasks.finish([Finish("a", "n", 1, S.RETRYING, b"e", due_ms=2_000)])
    bench.offer(delivery)
    await eventually(lambda: bench.room.parked == 1)
    bench.clock.advance(2.01)
    bench.claimer.wake()
    await eventually(lambda: bench.ran == ["a"])
    assert bench.shape("a") == (2, 0, 1)


async def test_a_double_of_what_runs_here_waits_for_its_end_without_a_question(bench: Bench) -> None:
    bench.offer(*bench.make("a"))
    await eventually(lambda: bench.ran == ["a"])
    bench.offer(*bench.make("a", "a"))
    await eventually(lambda: bench.room.parked == 2)
    assert len(bench.watched.asked) == 1
    assert bench.slots.free == 9
    assert bench.room.next_due() is None, "it is not looked at again before its task has ended here"


async def test_also_when_both_were_claimed_in_one_batch(bench: Bench) -> None:
    first, second = bench.make("a", "a")
    bench.offer(first, second)
    await eventually(lambda: bench.room.parked == 1)
    assert [attempt.origin for attempt in bench.executor.running.values()] == [first]
    assert bench.room.next_due() is None


async def test_suspects_run_one_at_a_time_beside_the_innocent(bench: Bench) -> None:
    await bench.crash("bad", 2)
    await bench.crash("worse", 2)
    bench.offer(*bench.make("bad", "good", "worse", "better"))
    await eventually(lambda: len(bench.ran) == 3)
    await bench.settle()
    assert set(bench.ran) > {"good", "better"}
    (first,) = set(bench.ran) & {"bad", "worse"}
    assert max(suspects for _, suspects in bench.watched.asked) == 1
    bench.executor.running[first].cancel(StopReason.SHUTDOWN)
    await eventually(lambda: {"bad", "worse"} <= set(bench.ran))


async def test_in_an_outage_the_same_claims_go_again_with_the_same_nonces(bench: Bench) -> None:
    deliveries = bench.make("a", "b")
    bench.store.down = True
    bench.offer(*deliveries)
    await eventually(lambda: len(bench.watched.asked) >= 2)
    assert bench.slots.free == 10, "an outage holds no slot"
    bench.store.down = False
    await eventually(lambda: bench.ran == ["a", "b"])
    expected = {Claim(delivery.envelope.id, delivery.nonce, delivery.home) for delivery in deliveries}
    assert {frozenset(claims) for claims, _ in bench.watched.asked} == {frozenset(expected)}


async def test_a_claim_that_was_made_though_its_answer_was_lost_is_no_second_attempt(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    bench.watched.lose_answers = 1
    bench.offer(delivery)
    await eventually(lambda: bench.watched.asked and bench.store.down)
    bench.store.down = False
    await eventually(lambda: bench.ran == ["a"])
    assert bench.shape("a") == (1, 0, 0)


async def test_nor_is_that_of_a_suspect(bench: Bench) -> None:
    await bench.crash("bad", 2)
    (delivery,) = bench.make("bad")
    bench.watched.lose_answers = 1
    bench.offer(delivery)
    bench.suspects.suspected(delivery, 2)
    await eventually(lambda: bench.store.down)
    bench.store.down = False
    await eventually(lambda: bench.ran == ["bad"])
    assert bench.shape("bad") == (3, 2, 0)
    assert [suspects for _, suspects in bench.watched.asked] == [1, 1]


async def test_after_stop_nothing_more_is_claimed(bench: Bench) -> None:
    bench.claimer.stop()
    bench.offer(*bench.make("a"))
    await bench.settle()
    assert bench.watched.asked == []


async def test_a_lease_that_was_given_back_may_be_had_at_once(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    await bench.store.tasks.claim(OTHER, [Claim("a", "n")], 0)
    await bench.store.tasks.release([Lease("a", "n", 1, False)])
    bench.offer(delivery)
    await eventually(lambda: bench.ran == ["a"])
    assert bench.shape("a") == (2, 0, 0)


async def test_with_all_slots_taken_what_is_due_keeps_nobody_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench_with(1) as bench:
        (retry,) = bench.make("retry")
        await bench.store.tasks.claim(OTHER, [Claim("retry", "n")], 0)
        await bench.store.tasks.finish([Finish("retry", "n", 1, S.RETRYING, b"e", due_ms=2_000)])
        bench.offer(retry)
        await eventually(lambda: bench.room.parked == 1)
        bench.offer(*bench.make("long"))
        await eventually(lambda: bench.ran == ["long"])
        await bench.settle()
        rounds = 0
        original = bench.claimer._claim_some

        async def counted() -> bool:
            nonlocal rounds
            rounds += 1
            return await original()

        monkeypatch.setattr(bench.claimer, "_claim_some", counted)
        bench.clock.advance(5)
        bench.claimer.wake()
        await bench.settle()
        assert rounds <= 2, "each of its two halves looks once"
        bench.open.set()
        await eventually(lambda: bench.ran == ["long", "retry"])


async def test_what_can_not_be_read_ends_failed_with_the_reason(bench: Bench) -> None:
    (delivery,) = bench.make("a")
    delivery.task, delivery.defect = None, "args: Input should be a valid list"
    bench.offer(delivery)
    await eventually(lambda: bench.unrunnable.attempts)
    (attempt,) = bench.unrunnable.attempts.values()
    assert attempt.envelope.id == "a"
    assert bench.slots.free == bench.slots.total
    bench.unrunnable.hurry()


async def test_a_record_under_the_id_of_another_task_is_a_dead_letter(bench: Bench) -> None:
    await bench.store.tasks.register(["a"], homes=["7"])
    (delivery,) = bench.make("a")
    bench.offer(delivery)
    await eventually(lambda: delivery.place is Place.OUTBOX)
    assert bench.ran == []
    assert bench.unrunnable.attempts == {}, "no task ends with it"
    assert await bench.store.tasks.snapshots(["a"]) == [Snapshot(S.QUEUED)]
    assert bench.slots.free == bench.slots.total
