"""Suspects: who shares a child process with whom, and what a death in one proves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_attempt
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome
from yadtq.execution.quarantine.quarantine import Quarantine
from yadtq.execution.quarantine.report import PROOFS, CrashReport, proofs_needed
from yadtq.execution.quarantine.ward import Died, Ward, child_command
from yadtq.runtime.clock import SystemClock
from yadtq.settings import WorkerSettings
from yadtq.testing.doubles import ManualClock
from yadtq.wire.states import TaskStatus as S
from yadtq.worker.machine import Machine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.execution.attempt import Attempt

ROOT = Path(__file__).parents[2]
app = Yadtq("quarantine")


@app.task
async def work() -> None: ...


class FakeWard:
    """`ward.Ward` whose child ends when the test says so."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ended = self.closed = False
        self.members: dict[str, asyncio.Future[Outcome]] = {}
        self.closings = 0

    @property
    def inside(self) -> int:
        return len(self.members)

    async def run(self, attempt: Attempt) -> Outcome:
        answer = self.members[attempt.envelope.id] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            del self.members[attempt.envelope.id]

    def die(self, code: int) -> None:
        self.ended = True
        for answer in self.members.values():
            answer.set_exception(Died(CrashReport(code, 0, 0.0, 1.0), together=len(self.members)))

    async def close(self) -> None:
        self.ended = True
        self.closings += 1


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wards: list[FakeWard] = []
        self.quarantine = Quarantine(make=self._make, clock=self.clock)  # type: ignore[arg-type]
        self.freed = 0
        self.quarantine.on_free = self._free

    def _make(self, size: int) -> FakeWard:
        self.wards.append(FakeWard(size))
        return self.wards[-1]

    def _free(self) -> None:
        self.freed += 1

    def start(self, *ids: str) -> list[asyncio.Task[Outcome]]:
        async def plain(attempt: Attempt) -> Outcome:
            raise AssertionError("a suspect ran beside others")

        started = []
        for task_id in ids:
            assert self.quarantine.admit(task_id, 1), f"there is no place for {task_id}"
            attempt = make_attempt(work, task_id=task_id, crashes=1)
            started.append(asyncio.ensure_future(self.quarantine.outcome(attempt, plain)))
        return started

    async def died(self, runs: list[asyncio.Task[Outcome]], ward: FakeWard, code: int) -> list[Outcome]:
        await eventually(lambda: ward.inside == len(runs), interval=0)
        ward.die(code)
        outcomes = await asyncio.gather(*runs)
        for outcome in outcomes:
            self.quarantine.dismiss(outcome.attempt.envelope.id)
        return outcomes


@pytest.fixture
def bench() -> Bench:
    return Bench()


class TestGroups:
    async def test_all_share_a_child_at_first(self, bench: Bench) -> None:
        runs = bench.start(*(f"t{n}" for n in range(64)))
        assert [ward.size for ward in bench.wards] == [64]
        outcomes = await bench.died(runs, bench.wards[0], -9)
        assert {(outcome.status, outcome.crash, outcome.attempt.stop) for outcome in outcomes} == {
            (None, "", StopReason.CHILD_DIED)
        }, "nothing is proven: they are claimed again"

    async def test_then_smaller_groups_and_in_the_end_alone(self, bench: Bench) -> None:
        names = [f"t{n}" for n in range(20)]
        await bench.died(bench.start(*names), bench.wards[0], -11)
        await bench.died(bench.start(*names[:8]), bench.wards[1], -11)
        assert bench.wards[1].size == 8
        runs = bench.start(*names[:2])
        assert [ward.size for ward in bench.wards[2:]] == [1, 1]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def test_a_few_that_die_together_go_on_alone_at_once(self, bench: Bench) -> None:
        await bench.died(bench.start("a", "b", "c"), bench.wards[0], 1)
        bench.quarantine.admit("a", 1)
        assert bench.wards[-1].size == 1

    async def test_what_ends_well_is_no_suspect_any_more(self, bench: Bench) -> None:
        await bench.died(bench.start("a", "b"), bench.wards[0], 1)
        (run,) = bench.start("a")
        ward = bench.wards[-1]
        await eventually(lambda: ward.inside == 1, interval=0)
        ward.members["a"].set_result(Outcome(make_attempt(work, task_id="a"), S.SUCCESS, b"null"))
        assert (await run).status is S.SUCCESS
        bench.quarantine.dismiss("a")
        bench.quarantine.admit("a", 2)
        assert bench.wards[-1].size == 64, "its history is forgotten"


class TestProof:
    @pytest.mark.parametrize("code", [0, 3, -signal.SIGSEGV, -signal.SIGABRT])
    async def test_one_death_alone_that_is_its_own_doing(self, bench: Bench, code: int) -> None:
        (outcome,) = await bench.died(bench.start("bad"), bench.wards[0], code)
        assert (outcome.status, bool(outcome.crash)) == (S.FAILED, True)

    @pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGTERM, 255])
    async def test_what_may_come_from_outside_has_to_happen_several_times(self, bench: Bench, code: int) -> None:
        for _ in range(PROOFS - 1):
            (outcome,) = await bench.died(bench.start("bad"), bench_ward(bench), code)
            assert (outcome.status, outcome.crash) == (None, "")
        (outcome,) = await bench.died(bench.start("bad"), bench_ward(bench), code)
        assert outcome.status is S.FAILED

    def test_the_report_says_how_it_ended(self) -> None:
        text = str(CrashReport(-11, 50 * 2**20, 0.25, 3.0, "Fatal Python error: Segmentation fault"))
        assert "SIGSEGV after 3.0 s" in text
        assert "memory 50 MB" in text
        assert text.endswith("Segmentation fault")
        assert proofs_needed(CrashReport(-200, 0, 0, 0)) == PROOFS
        assert "signal 200" in str(CrashReport(-200, 0, 0, 0))


def bench_ward(bench: Bench) -> FakeWard:
    return next(ward for ward in bench.wards if not ward.ended)


class TestChildren:
    async def test_no_more_than_four_at_once(self, bench: Bench) -> None:
        for n in range(4):
            bench.quarantine._histories[f"t{n}"] = type(bench.quarantine._history("x"))(size=1)
        bench.quarantine._histories["late"] = type(bench.quarantine._history("x"))(size=1)
        runs = bench.start("t0", "t1", "t2", "t3")
        assert not bench.quarantine.admit("late", 1)
        assert bench.quarantine.places() == 0
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def test_an_idle_one_makes_room_for_a_group_of_another_size(self, bench: Bench) -> None:
        history = type(bench.quarantine._history("x"))
        for n in range(4):
            bench.quarantine._histories[f"t{n}"] = history(size=1)
            assert bench.quarantine.admit(f"t{n}", 1)
        for n in range(4):
            bench.quarantine.dismiss(f"t{n}")
        assert bench.quarantine.admit("other", 1)
        assert [ward.size for ward in bench.wards] == [1, 1, 1, 1, 64]

    async def test_those_that_have_nothing_to_do_are_ended_and_that_is_told(self, bench: Bench) -> None:
        bench.quarantine.admit("a", 1)
        await bench.quarantine._close_idle()
        bench.quarantine.dismiss("a")
        bench.clock.advance(5)
        await bench.quarantine._close_idle()
        assert (bench.wards[0].closings, bench.freed) == (0, 0), "it is kept warm for a while"
        bench.clock.advance(6)
        await bench.quarantine._close_idle()
        assert (bench.wards[0].closings, bench.freed) == (1, 1)

    async def test_where_none_can_be_started_the_task_waits_uncharged(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("yadtq.execution.quarantine.quarantine._RETRY_S", 0)

        async def refuse(attempt: Attempt) -> Outcome:
            raise OSError("no more processes")

        (run,) = bench.start("a")
        bench.wards[0].run = refuse  # type: ignore[method-assign]
        assert (await run).status is None


class TestWard:
    """With a real child process, of the bundled examples."""

    @pytest.fixture
    async def ward(self, request: pytest.FixtureRequest) -> AsyncIterator[Ward]:
        opens = getattr(request, "param", "0")
        environ = {"PYTHONPATH": ":".join(filter(None, sys.path)), "CHILD_OPENS": opens}
        made = Ward(
            command=child_command("tests.support.child_app:app", "worker-1"),
            environ=environ,
            size=8,
            clock=SystemClock(),
        )
        yield made
        await made.close()
        assert made.ended

    def attempt(self, name: str, *args: Any, **fields: Any) -> Attempt:
        from tests.support.child_app import app as child_app

        return make_attempt(child_app.registry.get(name), *args, task_id=f"{name}-{random.random()}", **fields)

    async def test_runs_tasks_and_tells_how_they_end(self, ward: Ward) -> None:
        good, bad = await asyncio.gather(
            ward.run(self.attempt("double", 21, number=4)), ward.run(self.attempt("fails", retries=0))
        )
        assert (good.status, good.payload) == (S.SUCCESS, b'[42,4,"worker-1"]')
        assert bad.status is S.FAILED
        assert b"ValueError" in bad.payload
        assert ward.inside == 0

    @pytest.mark.parametrize("ward", ["1"], indirect=True)
    async def test_opens_what_tasks_share_before_their_time_counts(self, ward: Ward) -> None:
        outcome = await ward.run(self.attempt("shared", timeout_s=0.4))
        assert outcome.status is S.SUCCESS
        state, pid = json.loads(outcome.payload)
        assert state == f"opened in {pid}"
        assert pid != os.getpid()

    @pytest.mark.parametrize("ward", ["never"], indirect=True)
    async def test_a_lifespan_that_fails_proves_nothing(self, ward: Ward, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(OSError, match="exit 1"):
            await ward.run(self.attempt("shared"))
        assert "the lifespan of app 'child' could not be opened: ValueError: no such host" in capfd.readouterr().err

    @pytest.mark.parametrize(("name", "code"), [("exits", 3), ("segfaults", -11), ("kills_itself", -9)])
    async def test_its_death_is_told_with_a_report(self, ward: Ward, name: str, code: int) -> None:
        with pytest.raises(Died) as death:
            await ward.run(self.attempt(name))
        assert (death.value.report.code, death.value.together) == (code, 1)
        if name == "segfaults":
            assert "child_app.py" in death.value.report.stack

    async def test_a_blocked_child_is_ended_by_the_time_limit_and_that_is_no_evidence(
        self, ward: Ward, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("yadtq.execution.quarantine.ward._STOP_S", 0.5)
        attempt = self.attempt("blocks", timeout_s=0.2)
        with pytest.raises(asyncio.CancelledError):
            await ward.run(attempt)
        assert attempt.stop is StopReason.TIMEOUT
        await eventually(lambda: ward.ended)

    async def test_it_finds_the_app_wherever_a_task_has_taken_the_worker(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        home.mkdir()
        (home / "local_app.py").write_text(
            "from yadtq import Yadtq\napp = Yadtq('local')\n@app.task\nasync def one() -> int:\n    return 1\n"
        )
        monkeypatch.setattr("yadtq.worker.machine._FOLDER", str(home))
        monkeypatch.syspath_prepend(str(home))
        from local_app import app as local  # type: ignore[import-not-found]

        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        machine = Machine.this(
            worker_id="w",
            pipe=None,
            app_path="local_app:app",
            outside=memory_outside(clock=SystemClock()),
            options=WorkerSettings.load(),
        )
        monkeypatch.chdir("/")
        monkeypatch.delenv("PYTHONPATH")
        attempt = make_attempt(local.registry.get("one"), crashes=1)
        assert machine.suspects.admit(attempt.envelope.id, 1)
        try:
            async with asyncio.timeout(20):
                outcome = await machine.suspects.outcome(attempt, None)  # type: ignore[arg-type]
        finally:
            for ward in machine.suspects._wards:  # type: ignore[attr-defined]
                await ward.close()
        assert (outcome.status, outcome.payload) == (S.SUCCESS, b"1")

    async def test_a_child_that_can_not_start_proves_nothing(self) -> None:
        ward = Ward(command=[sys.executable, "-c", "raise SystemExit(7)"], environ={}, size=1, clock=SystemClock())
        with pytest.raises(OSError, match="exit 7"):
            await ward.run(self.attempt("double", 1))
        await ward.close()
