"""A whole worker on doubles: what no single part can show, with the conservation laws checked at every turn."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.assembled import assembled
from tests.support.poll import eventually
from yadtq import Discard, Retry, Yadtq
from yadtq.delivery.place import Place
from yadtq.runtime.seams import OutRecord
from yadtq.runtime.service import Periodic
from yadtq.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yadtq.wire.envelope import Envelope


@pytest.fixture
def app() -> Yadtq:
    return Yadtq("t", lease_s=5, heartbeat_s=0.05)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_tasks_run_retry_and_end_and_a_drain_commits_all(app: Yadtq) -> None:
    tries: dict[str, int] = {}

    @app.task
    async def addition(x: int, y: int) -> int:
        return x + y

    @app.task(retries=3, retry_base=0.01)
    async def third_time(name: str) -> int:
        tries[name] = tries.get(name, 0) + 1
        if tries[name] < 3:
            raise Retry(delay=0.01) if name == "asked" else ValueError(name)
        return tries[name]

    @app.task
    def in_thread() -> str:
        return threading.current_thread().name

    @app.task
    async def fails() -> None:
        raise ValueError("no")

    async with assembled(app, concurrency=5) as bench:
        sums = [bench.submit("addition", n, 1, task_id=f"sum{n}") for n in range(40)]
        retried = [bench.submit("third_time", name, task_id=name) for name in ("asked", "failed")]
        threads = [bench.submit("in_thread", task_id=f"thread{n}") for n in range(5)]
        bench.submit("fails", task_id="fails")
        await bench.ended(*sums, *retried, *threads, "fails")
        assert await bench.statuses(*sums, *retried, *threads) == {"SUCCESS"}
        assert await bench.statuses("fails") == {"FAILED"}
        seven, asked = await bench.snapshot("sum7"), await bench.snapshot("asked")
        assert (seven.payload, seven.attempt) == (b"8", 1)
        assert (asked.payload, asked.attempt) == (b"3", 3)
    assert bench.committed_all()
    counters = bench.parts.counters
    assert (counters.succeeded, counters.failed, counters.retried) == (47, 1, 4)


class TestUnrunnable:
    @pytest.fixture
    def app(self, app: Yadtq) -> Yadtq:
        @app.task
        async def work() -> None: ...

        return app

    async def test_a_burst_of_them_keeps_no_other_from_running_while_kafka_is_away(self, app: Yadtq) -> None:
        async with assembled(app, concurrency=3, unknown_task_window_s=0) as bench:
            bench.cluster.away.add(bench.names.dead)
            unrunnable = [bench.submit("nobody", task_id=f"unrunnable{n}") for n in range(20)]
            works = [bench.submit("work", task_id=f"work{n}") for n in range(20)]
            await bench.ended(*works)
            await eventually(lambda: len(bench.parts.outbox) == 20)
            assert await bench.statuses(*unrunnable) == {"IN_PROGRESS"}
            assert bench.letters() == []
            bench.cluster.away.clear()
            await bench.ended(*unrunnable)
            assert await bench.statuses(*unrunnable) == {"FAILED"}
            assert len(bench.letters()) == 20
        assert bench.committed_all()

    async def test_they_hold_a_lease_and_no_slot(self, app: Yadtq) -> None:
        async with assembled(app, concurrency=3, unknown_task_window_s=0) as bench:
            bench.cluster.away.add(bench.names.dead)
            bench.submit("nobody", task_id="unrunnable")
            await eventually(lambda: len(bench.parts.outbox) == 1)
            assert bench.parts.executor.slots.is_idle
            assert await bench.statuses("unrunnable") == {"IN_PROGRESS"}
            (attempt,) = bench.parts.unrunnable.attempts.values()
            before = attempt.lease_at
            await eventually(lambda: attempt.lease_at > before, what="its lease is renewed")
            bench.cluster.away.clear()

    async def test_a_drain_waits_for_their_letters_and_stores_their_end(self, app: Yadtq) -> None:
        async with assembled(app, unknown_task_window_s=0) as bench:
            bench.cluster.away.add(bench.names.dead)
            bench.submit("nobody", task_id="unrunnable")
            await eventually(lambda: len(bench.parts.outbox) == 1)
            bench.worker.drain()
            await eventually(lambda: bench.parts.heart.phase == "draining")
            bench.cluster.away.clear()
            await bench.ended("unrunnable")
        assert await bench.statuses("unrunnable") == {"FAILED"}
        assert len(bench.letters()) == 1
        assert bench.committed_all()

    async def test_one_whose_letter_can_not_be_written_in_time_is_given_back(self, app: Yadtq) -> None:
        """Its lease must not keep another worker waiting: what this one could not end is anybody's."""
        async with assembled(app, unknown_task_window_s=0, grace_s=0) as bench:
            bench.cluster.away.add(bench.names.dead)
            bench.submit("nobody", task_id="unrunnable")
            await eventually(lambda: len(bench.parts.outbox) == 1)
            bench.worker.drain()

            async def given_back() -> bool:
                return await bench.statuses("unrunnable") == {"QUEUED"}

            await eventually(given_back)
            bench.cluster.away.clear()
        assert await bench.statuses("unrunnable") == {"QUEUED"}, "a letter that comes later changes nothing"
        assert not bench.committed_all()


class TestThreads:
    @pytest.fixture
    def app(self, app: Yadtq, gate: threading.Event) -> Yadtq:
        @app.task
        def hold() -> None:
            gate.wait()

        @app.task
        async def work() -> None: ...

        return app

    async def test_waiting_for_a_thread_holds_no_slot_no_lease_and_no_time(
        self, app: Yadtq, gate: threading.Event
    ) -> None:
        async with assembled(app, concurrency=4, threads=1) as bench:
            held = [bench.submit("hold", task_id=f"hold{n}", timeout_s=30) for n in range(10)]
            await eventually(lambda: bench.parts.executor.slots.running == 1)
            (running,) = bench.parts.executor.running
            works = [bench.submit("work", task_id=f"work{n}") for n in range(20)]
            await bench.ended(*works)
            await eventually(lambda: len(bench.parts.room.contents()[Place.GATED]) == 9)
            assert bench.parts.executor.slots.free == 3, "the others are for async tasks"
            waiting = [task_id for task_id in held if task_id != running]
            assert await bench.statuses(*waiting) == {"-"}, "no lease: another worker with a free thread may have them"
            gate.set()
            await bench.ended(*held)
            assert await bench.statuses(*held) == {"SUCCESS"}

    async def test_time_limits_shorter_than_the_wait_end_nobody(self, app: Yadtq) -> None:
        """Ten of them through one thread: those behind wait for longer than any of them may take."""
        ran: list[int] = []

        @app.task
        def brief(n: int) -> None:
            threading.Event().wait(0.1)
            ran.append(n)

        async with assembled(app, threads=1) as bench:
            briefs = [bench.submit("brief", n, task_id=f"brief{n}", timeout_s=0.8) for n in range(12)]
            await bench.ended(*briefs)
            assert await bench.statuses(*briefs) == {"SUCCESS"}
        assert sorted(ran) == list(range(12)), "each once"

    async def test_a_thread_that_is_left_to_itself_is_waited_for(self, app: Yadtq, gate: threading.Event) -> None:
        async with assembled(app, threads=1) as bench:
            bench.submit("hold", task_id="hangs", timeout_s=0.05)
            await bench.ended("hangs")
            bench.submit("hold", task_id="next")
            await eventually(lambda: bench.parts.room.contents()[Place.GATED])
            assert bench.parts.executor.slots.is_idle
            gate.set()
            await bench.ended("next")
            assert await bench.statuses("hangs", "next") == {"FAILED", "SUCCESS"}


async def test_a_full_worker_does_not_spin_when_something_parked_is_due(app: Yadtq) -> None:
    release = asyncio.Event()

    @app.task
    async def hold() -> None:
        await release.wait()

    @app.task
    async def again() -> None:
        raise Retry(delay=0.01)

    async with assembled(app, concurrency=2) as bench:
        claimer, room = bench.parts.claimer, bench.parts.room
        bench.submit("again", task_id="again")
        await eventually(lambda: room.contents()[Place.PARKED] or bench.parts.counters.retried)
        held = [bench.submit("hold", task_id=f"hold{n}") for n in range(2)]
        await eventually(lambda: bench.parts.executor.slots.running == 2 and room.contents()[Place.PARKED])
        await eventually(lambda: (room.next_due() or 0.0) + 0.02 < asyncio.get_running_loop().time())
        looks = 0
        claim_some = claimer._claim_some

        async def counted() -> bool:
            nonlocal looks
            looks += 1
            return await claim_some()

        claimer._claim_some = counted  # type: ignore[method-assign]
        claimer.wake()
        await bench.turns(500)
        assert looks < 50, "it looks when it is woken, and not at every turn of the loop"
        release.set()
        await bench.ended(*held)


class TestSequels:
    class Next:
        """`Sequel`: a record in another topic after each task."""

        def records(self, envelope: Envelope) -> Sequence[OutRecord]:
            return [OutRecord("next", f"after {envelope.id}".encode())]

    async def test_what_follows_is_there_before_the_record_goes(self, app: Yadtq) -> None:
        @app.task
        async def work() -> None: ...

        async with assembled(app, sequels=[self.Next()]) as bench:
            bench.cluster.create_topic("next")
            bench.cluster.away.add("next")
            bench.submit("work", task_id="a")
            await bench.ended("a")
            await eventually(lambda: len(bench.parts.outbox) == 1)
            assert not bench.committed_all()
            bench.cluster.away.clear()
            await eventually(bench.committed_all)
            bench.submit("work", task_id="a")  # as after a crash before the commit
            await eventually(lambda: len(bench.cluster.records("next")) == 2)
            await eventually(bench.committed_all)
            assert {record.value for record in bench.cluster.records("next")} == {b"after a"}


class TestDrain:
    @pytest.mark.parametrize("raised", [RuntimeError, Retry, Discard, SystemExit, KeyboardInterrupt, None])
    async def test_never_makes_a_task_failed(self, app: Yadtq, raised: type[BaseException] | None) -> None:
        """Whatever it answers its cancellation with: that it was broken off says nothing of the task."""
        began = asyncio.Event()

        @app.task(retries=0)
        async def stubborn() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if raised is not None:
                    raise raised from None
                raise

        async with assembled(app, grace_s=0) as bench:
            bench.submit("stubborn", task_id="a")
            await began.wait()
        assert await bench.statuses("a") == {"QUEUED"}
        assert not bench.committed_all()
        assert bench.parts.counters.failed == 0

    async def test_waits_for_what_runs(self, app: Yadtq) -> None:
        began, release = asyncio.Event(), asyncio.Event()

        @app.task
        async def work() -> int:
            began.set()
            await release.wait()
            return 1

        async with assembled(app) as bench:
            bench.submit("work", task_id="a")
            await began.wait()
            bench.worker.drain()
            await eventually(lambda: bench.parts.heart.phase == "draining")
            late = bench.submit("work", task_id="late")
            release.set()
            await bench.ended("a")
        assert await bench.statuses("a") == {"SUCCESS"}
        assert await bench.statuses(late) == {"-"}, "nothing is claimed after the drain has begun"


async def test_outages_of_redis_and_kafka_lose_nothing(app: Yadtq) -> None:
    @app.task(retries=2, retry_base=0.01)
    async def work(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async with assembled(app, concurrency=4) as bench:
        ids: list[str] = []
        for turn in range(4):
            ids += [bench.submit("work", n, task_id=f"{turn}-{n}") for n in range(25)]
            await eventually(lambda: bench.parts.executor.running or bench.parts.counters.succeeded == len(ids))  # noqa: B023
            bench.store.down = turn % 2 == 0
            bench.cluster.down = turn % 2 == 1
            await bench.turns(100)
            bench.store.down = bench.cluster.down = False
        await bench.ended(*ids)
        assert await bench.statuses(*ids) == {"SUCCESS"}
    assert bench.committed_all()


async def test_rebalances_repeat_nothing(app: Yadtq) -> None:
    ran: list[int] = []

    @app.task
    async def work(n: int) -> None:
        ran.append(n)
        await asyncio.sleep(0)

    async with assembled(app, partitions=4, concurrency=3) as bench:
        ids = [bench.submit("work", n, task_id=f"t{n}") for n in range(200)]
        for _ in range(5):
            bench.cluster.rebalance(bench.names.group)
            await bench.turns(20)
        await bench.ended(*ids)
    assert sorted(ran) == list(range(200)), "each once: what was kept is not run again"
    assert bench.committed_all()


async def test_a_service_whose_rounds_fail_shows_in_the_heartbeat_and_goes_on(
    app: Yadtq, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def work() -> None: ...

    async with assembled(app) as bench:
        rebuilder = next(service for service in bench.parts.services if service.name == "rebuilder")
        assert isinstance(rebuilder, Periodic)

        async def broken() -> None:
            raise KeyError("a defect")

        def failing() -> dict[str, int]:
            records = bench.cluster.records(bench.names.heartbeats)
            return Heartbeat.decode(records[-1].value).failing if records else {}

        monkeypatch.setattr(rebuilder, "interval_s", lambda: 0.05)
        monkeypatch.setattr(rebuilder, "tick", broken)
        rebuilder.failures = 1  # as after a round: its interval began before this test
        await eventually(lambda: failing().get("rebuilder", 0) >= 1, what="the heartbeat that says so")
        monkeypatch.undo()
        rebuilder.failures = 0
        await eventually(lambda: failing() == {}, what="the heartbeat that says it is over")
        await bench.ended(bench.submit("work", task_id="t"))
