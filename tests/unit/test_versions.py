"""A deploy: old and new code side by side. What one of them knows is not FAILED by the other."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import bring, make_delivery, make_record, running_worker
from tests.support.assembled import Assembled
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.delivery.checked import CheckedDelivery
from yadtq.delivery.delivery import Elsewhere, Until
from yadtq.delivery.gates.unknown import WINDOW, Candidate, UnknownTasks, destination
from yadtq.delivery.handover import copy_of
from yadtq.delivery.place import Place
from yadtq.runtime.clock import SystemClock
from yadtq.settings import WorkerSettings
from yadtq.wire.codec import decode
from yadtq.worker.assembly import Given
from yadtq.worker.heartbeat import Identity
from yadtq.worker.machine import Machine
from yadtq.worker.parent import Parent
from yadtq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOPIC = "yadtq.t.tasks.default"


def make(*, new: bool) -> Yadtq:
    app = Yadtq("t", heartbeat_s=0.05, lease_s=5)

    @app.task
    async def same() -> int:
        return 1

    if new:

        @app.task
        async def added() -> int:
            return 2

        @app.task(name="changed")
        async def changed_now(n: int, more: str = "") -> str:
            return more
    else:

        @app.task(name="changed")
        async def changed_before(n: int) -> str:
            return "old"

        @app.task
        async def removed() -> int:
            return 3

    return app


OLD, NEW = make(new=False), make(new=True)


class Both:
    """Workers of any version on one cluster of two partitions."""

    def __init__(self, **options: Any) -> None:
        self.first = Assembled(OLD)
        self.options = {"commit_interval_s": 0.01, "unknown_task_window_s": 60, **options}
        self.count = 0

    def worker(self, app: Yadtq) -> Worker:
        made = self.first
        self.count += 1
        outside = memory_outside(
            "t",
            clock=SystemClock(),
            broker=made.cluster.for_app(made.names, app.settings),
            store=made.store,
            settings=app.settings,
            seed=self.count,
        )
        options = WorkerSettings.load(**self.options)
        return Worker(
            Given(
                app=app,
                identity=Identity(f"w{self.count}", None, ("default",), 100),
                options=options,
                outside=outside,
                machine=Machine(parent=Parent()),
                delivery=CheckedDelivery,
            )
        )

    @asynccontextmanager
    async def running(self, *apps: Yadtq) -> AsyncIterator[list[Worker]]:
        workers = [self.worker(app) for app in apps]
        async with AsyncExitStack() as stack:
            for worker in workers:
                await stack.enter_async_context(running_worker(worker))
            yield workers

    def submit_each(self, task: str, count: int = 6, **fields: Any) -> list[str]:
        return [self.first.submit(task, task_id=f"{task}{n}", **fields) for n in range(count)]

    async def payloads(self, ids: list[str]) -> set[Any]:
        return {decode((await self.first.snapshot(task_id)).payload) for task_id in ids}


def as_submitted_by(app: Yadtq, task: str, **kwargs: Any) -> dict[str, Any]:
    return {"kwargs": kwargs, "fingerprint": app.registry.get(task).signature.fingerprint}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yadtq.delivery.gates.unknown._LOOK_S", 0.02)


class TestSideBySide:
    async def test_a_task_that_only_the_new_code_knows(self) -> None:
        both = Both()
        async with both.running(OLD, NEW):
            ids = both.submit_each("added")
            await both.first.ended(*ids)
        assert await both.payloads(ids) == {2}
        assert both.first.letters() == []

    async def test_one_that_only_the_old_code_knows(self) -> None:
        both = Both()
        async with both.running(OLD, NEW):
            ids = both.submit_each("removed")
            await both.first.ended(*ids)
        assert await both.payloads(ids) == {3}

    async def test_a_parameter_that_only_the_new_code_knows(self) -> None:
        both = Both()
        async with both.running(OLD, NEW) as (old, new):
            ids = both.submit_each("changed", **as_submitted_by(NEW, "changed", n=1, more="new"))
            await both.first.ended(*ids)
            assert old.parts.counters.failed == new.parts.counters.failed == 0
            assert old.parts.audit() == new.parts.audit() == []
        assert await both.payloads(ids) == {"new"}

    async def test_what_fits_both_runs_anywhere(self) -> None:
        both = Both()
        async with both.running(OLD, NEW):
            ids = both.submit_each("changed", **as_submitted_by(NEW, "changed", n=1))
            await both.first.ended(*ids)
        assert await both.payloads(ids) <= {"old", ""}

    async def test_the_deploy_comes_later(self, caplog: pytest.LogCaptureFixture) -> None:
        both = Both()
        async with both.running(OLD) as (old,):
            ids = both.submit_each("added", 3)
            ids += both.submit_each("changed", 3, **as_submitted_by(NEW, "changed", n=1, more="new"))
            await eventually(lambda: len(old.parts.unknown) == 6)
            assert await both.first.statuses(*ids) <= {"-", "QUEUED", "RETRYING"}
            async with both.running(NEW):
                await both.first.ended(*ids)
        assert await both.payloads(ids) == {2, "new"}
        told = [each.getMessage() for each in caplog.records if "waits 60 s for a deploy" in each.getMessage()]
        assert len(told) >= 6


class TestTheEnd:
    async def test_of_a_name_that_nobody_knows(self) -> None:
        both = Both(unknown_task_window_s=0.1)
        async with both.running(OLD, NEW):
            ids = both.submit_each("nobody", 4)
            await both.first.ended(*ids)
        assert {error["type"] for error in map(decode, await self.errors(both, ids))} == {"UnknownTask"}
        assert len(both.first.letters()) == 4

    async def test_of_arguments_that_nobody_accepts(self, caplog: pytest.LogCaptureFixture) -> None:
        both = Both(unknown_task_window_s=0.1)
        async with both.running(OLD, NEW):
            ids = both.submit_each("changed", 4, kwargs={"n": 1, "other": 2}, fingerprint="123")
            await both.first.ended(*ids)
        assert {error["type"] for error in map(decode, await self.errors(both, ids))} == {"InvalidArguments"}
        assert sum(record.name == "yadtq.task" for record in caplog.records) == 4

    @pytest.mark.parametrize("fields", [{}, {"fingerprint": OLD.registry.get("changed").signature.fingerprint}])
    async def test_of_wrong_arguments_of_the_same_version_comes_at_once(self, fields: dict[str, Any]) -> None:
        both = Both()
        async with both.running(OLD):
            ids = both.submit_each("changed", 2, kwargs={"n": "x"}, **fields)
            await both.first.ended(*ids)
        assert await both.first.statuses(*ids) == {"FAILED"}

    async def errors(self, both: Both, ids: list[str]) -> list[bytes]:
        return [(await both.first.snapshot(task_id)).payload for task_id in ids]


class Seen:
    def __init__(self, *candidates: Candidate, read_at: float = 1e9) -> None:
        self.candidates, self.read_at = candidates, read_at
        self.asked = 0

    def wanted(self) -> None:
        self.asked += 1


class TestTheGate:
    def knowing(self, partitions: dict[str, list[int]], fingerprint: str = "") -> Candidate:
        return Candidate("w9", {"added": fingerprint}, partitions)

    def test_it_does_not_end_before_the_others_were_looked_at(self) -> None:
        seen = Seen(read_at=-1.0)
        gate, delivery = UnknownTasks(10.0, seen), make_delivery(None, name="added")
        assert isinstance(gate.ask(delivery, 0.0), Until)
        assert isinstance(gate.ask(delivery, 60.0), Until)
        assert seen.asked == 2
        seen.read_at = 59.0
        assert gate.ask(delivery, 61.0) is None
        assert gate.ask(delivery, 62.0) is None, "its claim was refused: no new window begins"

    def test_nor_while_one_knows_it_that_has_no_partition(self) -> None:
        gate, delivery = UnknownTasks(10.0, Seen(self.knowing({"other": [1]}))), make_delivery(None, name="added")
        assert isinstance(gate.ask(delivery, 0.0), Until)
        assert isinstance(gate.ask(delivery, 1e6), Until)

    def test_it_prefers_the_version_of_whoever_submitted_it(self) -> None:
        delivery = make_delivery(None, name="added", fingerprint="b")
        others = [self.knowing({TOPIC: [1]}, "a"), Candidate("w8", {"added": "b"}, {TOPIC: [2]})]
        assert destination(delivery, others, exact=False) == Elsewhere(2, "w8")
        assert destination(delivery, others[:1], exact=False) == Elsewhere(1, "w9")
        assert destination(delivery, others[:1], exact=True) is None

    @pytest.mark.parametrize(
        ("header", "left"), [(b"3.5", 3.5), (b"1e9", 10.0), (b"-5", 0.0), (b"x", 10.0), (b"nan", 0.0)]
    )
    def test_a_copy_waits_for_what_was_left(self, header: bytes, left: float) -> None:
        delivery = make_delivery(None, name="added")
        delivery.record = make_record(b"value", headers=((WINDOW, header), ("mine", b"1")))
        gate = UnknownTasks(10.0, Seen(read_at=-1.0))
        gate.ask(delivery, 100.0)
        assert gate.left_s(delivery, 100.0) == left
        copy = copy_of(delivery, gate, 101.0, partition=7)
        assert copy.partition == 7
        assert dict(copy.headers) == {"mine": b"1", WINDOW: b"%.3f" % max(0.0, left - 1)}

    def test_those_that_are_gone_are_forgotten(self) -> None:
        gate = UnknownTasks(10.0)
        for _ in range(1_000):
            delivery = make_delivery(None, name="added")
            gate.ask(delivery, 0.0)
            bring(delivery, Place.DROPPED)
        assert len(gate) <= 64

    def test_without_a_window_nothing_waits(self) -> None:
        gate = UnknownTasks(0.0, Seen(self.knowing({TOPIC: [1]})))
        assert gate.ask(make_delivery(None, name="added"), 0.0) is None


async def test_heartbeats_name_the_tasks_and_their_signatures() -> None:
    both = Both()
    async with both.running(NEW) as (new,):
        await eventually(lambda: len(new.parts.heart._heartbeat().tasks) == 3)
        beat = new.parts.heart._heartbeat()
    assert beat.tasks["changed"] == NEW.registry.get("changed").signature.fingerprint
    assert beat.tasks["changed"] != OLD.registry.get("changed").signature.fingerprint
