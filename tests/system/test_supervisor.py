"""The supervisor over processes that die, hang, refuse and ignore."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.poll import consistently, eventually
from tests.system.supervised import Supervised, slot_id
from yadtq.supervisor.supervisor import Intent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Start = Callable[..., AbstractAsyncContextManager["Run"]]


class Run:
    """A supervisor at work."""

    def __init__(self, supervised: Supervised, caplog: pytest.LogCaptureFixture) -> None:
        self.it, self._caplog = supervised, caplog
        self.ended = asyncio.ensure_future(supervised.supervisor.run())

    def ask(self, intent: Intent) -> None:
        self.it.supervisor.ask(intent)

    def events(self, name: str) -> list[dict[str, str]]:
        """The facts of the events of that name, as logged."""
        found = []
        for record in self._caplog.records:
            if record.name == "yadtq.supervisor" and record.getMessage().startswith(f"event={name} "):
                pairs = re.findall(r'([\w-]+)=("(?:[^"\\]|\\.)*"|\S+)', record.getMessage())
                found.append({key: value.strip('"') for key, value in pairs})
        return found

    async def event(self, name: str, count: int = 1, timeout: float = 10) -> list[dict[str, str]]:
        await eventually(lambda: len(self.events(name)) >= count, timeout=timeout, what=f"{count} events {name!r}")
        return self.events(name)

    def pid(self, number: int) -> int:
        """Of the latest process of that slot."""
        return int([each for each in self.events("spawned") if each["slot"] == slot_id(number)][-1]["pid"])

    def worker(self, number: int) -> str | None:
        return self.it.supervisor.workers[slot_id(number)]

    async def stop(self) -> int:
        self.ask(Intent.STOP)
        return await self.end()

    async def end(self, timeout: float = 15) -> int:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(self.ended)

    def pids(self) -> set[int]:
        """Of all processes that fake workers have ever reported."""
        reported = {int(pid) for _event, _worker, pid, _ppid in self.it.log()}
        children = {int(event.partition(":")[2]) for event, *_ in self.it.log() if event.startswith("child:")}
        return reported | children


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Start:
    """`async with start(workers=2) as run:`; ends it if the test has not. In the end, no process is left."""
    monkeypatch.setenv("FAKE_DIR", str(tmp_path))
    caplog.set_level(logging.INFO, "yadtq.supervisor")

    @asynccontextmanager
    async def started(
        mode: str = "ok", *, workers: int = 2, modes: dict[int, str] | None = None, **own: Any
    ) -> AsyncIterator[Run]:
        supervised = Supervised(tmp_path, workers=workers, **own)
        supervised.set_mode(mode)
        for slot, special in (modes or {}).items():
            supervised.set_mode(special, slot)
        run = Run(supervised, caplog)
        try:
            yield run
        finally:
            supervised.group.open.set()
            if not run.ended.done():
                run.ended.cancel()
            await asyncio.wait([run.ended])
        assert [pid for pid in run.pids() if alive(pid)] == []

    return started


async def test_workers_start_run_and_drain(start: Start) -> None:
    async with start(workers=3) as run:
        await run.event("ready", 3)
        workers = set(run.it.supervisor.workers.values())
        assert len(workers) == 3
        assert await run.stop() == 0
        events = [event for event, *_ in run.it.log()]
        assert events.count("sigterm") == events.count("end") == 3
        assert len(run.events("stopped")) == 3
        assert sorted(run.it.group.left) == [slot_id(number) for number in range(3)]
        assert set(run.it.store.buried) == workers
        assert run.it.topic.announced == []


async def test_a_killed_worker_has_a_successor_in_its_slot_at_once(start: Start) -> None:
    async with start(workers=3) as run:
        await run.event("ready", 3)
        before = dict(run.it.supervisor.workers)
        os.kill(run.pid(1), signal.SIGKILL)
        ready = (await run.event("ready", 4))[-1]
        assert ready["slot"] == slot_id(1)
        assert float(ready["since_death_s"]) < 1
        after = run.it.supervisor.workers
        assert [after[slot_id(n)] == before[slot_id(n)] for n in range(3)] == [True, False, True]
        died = run.events("died")
        assert [(event["worker"], event["cause"]) for event in died] == [(before[slot_id(1)], "signal 9")]
        await eventually(lambda: run.it.store.buried == [before[slot_id(1)]], what="the certificate")
        await eventually(lambda: run.it.topic.announced, what="the announcement")
        (last,) = run.it.topic.announced
        assert (last.worker, last.slot, last.phase, last.pid) == (
            before[slot_id(1)],
            slot_id(1),
            "dead",
            int(died[0]["pid"]),
        )
        assert run.it.group.left == []


async def test_a_successor_does_not_wait_for_servers_that_are_down(start: Start) -> None:
    async with start(workers=1) as run:
        await run.event("ready")
        dead = run.worker(0)
        run.it.store.down, run.it.topic.down = 3, True
        os.kill(run.pid(0), signal.SIGKILL)
        ready = (await run.event("ready", 2))[-1]
        assert float(ready["since_death_s"]) < 1
        await eventually(lambda: run.it.store.buried == [dead], what="the certificate, when Redis is back")
        assert len(run.events("not-announced")) == 1


async def test_a_crash_loop_slows_down_and_is_given_up(start: Start) -> None:
    async with start(workers=2, modes={1: "crash"}, crash_budget=4) as run:
        await run.event("gave-up")
        delays = [float(event["after_s"]) for event in run.events("respawning")]
        assert delays[0] == 0
        assert delays == sorted(delays)
        assert len(delays) == 3
        assert len([event for event in run.events("died") if event["cause"] == "exit 1"]) == 4
        await eventually(lambda: run.it.group.left == [slot_id(1)], what="its partitions to be free")
        assert run.worker(0) is not None
        assert await run.stop() == 0


async def test_when_all_are_given_up_the_supervisor_ends(start: Start) -> None:
    async with start("crash", workers=2, crash_budget=2) as run:
        assert await run.end() == 1
        assert sorted(run.it.group.left) == [slot_id(0), slot_id(1)]


async def test_while_kafka_is_away_no_crash_is_held_against_a_slot(start: Start) -> None:
    async with start("crash", workers=1, crash_budget=2) as run:
        run.it.canary.singing = False
        await run.event("died", 5)
        assert run.events("gave-up") == []
        run.it.set_mode("ok")
        await run.event("ready")


async def test_a_wrong_configuration_is_not_tried_again(start: Start) -> None:
    async with start("exit2", workers=2) as run:
        assert await run.end() == 2
        assert len(run.events("spawned")) == 2
        assert {event["cause"] for event in run.events("gave-up")} == {"YADTQ_WORKER_CONCURRENCY: no number"}


async def test_an_end_that_nobody_asked_for_is_answered(start: Start) -> None:
    async with start(workers=1) as run:
        await run.event("ready")
        os.kill(run.pid(0), signal.SIGTERM)
        await run.event("ready", 2)
        assert run.events("died")[0]["cause"] == "exit 0"


async def test_children_of_a_dead_worker_die_with_it(start: Start) -> None:
    async with start("leaky", workers=1) as run:
        await run.event("ready")
        (child,) = [int(event.partition(":")[2]) for event, *_ in run.it.log() if event.startswith("child:")]
        assert alive(child)
        os.kill(run.pid(0), signal.SIGKILL)
        await eventually(lambda: not alive(child), what="the child's end")


async def test_who_ignores_the_request_is_killed_after_the_grace(start: Start) -> None:
    async with start("deaf", workers=2, grace_s=0.3) as run:
        await run.event("ready", 2)
        assert await run.stop() == 0
        assert {event["cause"] for event in run.events("died")} == {"killed after 0.3 s of grace"}
        assert len(run.it.topic.announced) == 2


async def test_a_second_request_is_passed_on_and_a_third_kills(start: Start) -> None:
    async with start("deaf", workers=1, grace_s=60) as run:
        await run.event("ready")

        def asked(count: int) -> bool:
            return [event for event, *_ in run.it.log()].count("sigterm") == count

        for count in (1, 2):
            run.ask(Intent.STOP)
            await eventually(partial(asked, count), what=f"SIGTERM number {count}")
        assert not run.ended.done()
        assert await run.stop() == 0
        assert run.events("died")[0]["cause"] == "killed at the third request to stop"


async def test_a_silent_worker_is_replaced(start: Start) -> None:
    async with start(workers=2, modes={1: "mute"}, silence_s=0.6) as run:
        await run.event("ready", 2)
        run.it.set_mode("ok", 1)
        died = (await run.event("died"))[0]
        assert (died["slot"], died["cause"]) == (slot_id(1), "killed after 0.6 s of silence")
        await run.event("ready", 3)
        assert len(run.events("died")) == 1


async def test_a_frozen_worker_is_replaced(start: Start) -> None:
    async with start(workers=1, silence_s=0.6) as run:
        await run.event("ready")
        os.kill(run.pid(0), signal.SIGSTOP)
        await run.event("ready", 2)
        assert run.events("died")[0]["cause"] == "killed after 0.6 s of silence"


async def test_nobody_is_killed_for_silence_while_the_topic_is_out_of_sight(start: Start) -> None:
    async with start("mute", workers=2, silence_s=0.5) as run:
        run.it.canary.singing = False
        await run.event("ready", 2)
        await consistently(lambda: run.events("killing") == [], during=1.5)
        run.it.canary.singing = True
        await run.event("killing", 2)


async def test_a_start_that_never_ends_is_ended(start: Start) -> None:
    async with start("stuck", workers=1, start_timeout_s=0.5) as run:
        died = (await run.event("died"))[0]
        assert died["cause"] == "killed as it was not running 0.5 s after its start"
        run.it.set_mode("ok")
        await run.event("ready")


async def test_a_rolling_restart_replaces_one_after_another(start: Start) -> None:
    async with start(workers=3) as run:
        await run.event("ready", 3)
        before = set(run.it.supervisor.workers.values())
        run.ask(Intent.RESTART)
        await run.event("ready", 6)
        assert before.isdisjoint(run.it.supervisor.workers.values())
        # The next is asked only when the one before has a successor that runs.
        steps = [
            (event, slot.rpartition(":")[0]) for event, slot, *_ in run.it.log() if event in ("sigterm", "start:ok")
        ]
        assert steps[3:] == [(event, slot_id(n)) for n in range(3) for event in ("sigterm", "start:ok")]
        moments = [name for name, _ in _order(run, "stopped", "ready")][3:]
        assert moments == ["stopped", "ready"] * 3
        assert run.it.group.left == []
        assert run.events("respawning") == []


def _order(run: Run, *names: str) -> list[tuple[str, str]]:
    """Events of these names in the order of their logging, with their slots."""
    messages = [record.getMessage() for record in run._caplog.records if record.name == "yadtq.supervisor"]
    found = [re.match(rf"event=({'|'.join(names)}) slot=(\S+)", message) for message in messages]
    return [(match[1], match[2]) for match in found if match]


async def test_a_rolling_restart_stops_at_the_first_failure(start: Start) -> None:
    async with start(workers=3) as run:
        await run.event("ready", 3)
        before = dict(run.it.supervisor.workers)
        run.it.set_mode("exit2")
        run.ask(Intent.RESTART)
        await run.event("restart-aborted")
        await consistently(lambda: len(run.events("stopped")) == 1)
        assert [run.worker(n) == before[slot_id(n)] for n in range(3)] == [False, True, True]
        assert run.worker(0) is None
        # With the mistake mended, the next restart brings back the lost one too.
        run.it.set_mode("ok")
        run.ask(Intent.RESTART)
        await run.event("ready", 6)
        assert None not in run.it.supervisor.workers.values()


async def test_one_more_and_one_less(start: Start) -> None:
    async with start(workers=1) as run:
        await run.event("ready")
        run.ask(Intent.MORE)
        await run.event("ready", 2)
        assert run.worker(1) is not None
        run.it.group.open.clear()
        run.ask(Intent.FEWER)
        await run.event("stopped")
        # Its name may still be removed from the group, and must not be given to a new worker meanwhile.
        run.ask(Intent.MORE)
        await run.event("ready", 3)
        assert run.worker(2) is not None
        run.it.group.open.set()
        await eventually(lambda: run.it.group.left == [slot_id(1)], what="the slot to leave")
        await eventually(lambda: slot_id(1) not in run.it.supervisor.workers, what="the slot to be free")
        run.ask(Intent.MORE)
        await run.event("ready", 4)
        assert run.worker(1) is not None


async def test_a_slot_that_cannot_be_had_costs_no_worker_its_life(start: Start, tmp_path: Path) -> None:
    async with start(workers=1) as run:
        await run.event("ready")
        shutil.rmtree(tmp_path / "locks")
        (tmp_path / "locks").write_text("in the way")
        run.ask(Intent.MORE)
        await run.event("not-added")
        assert await run.stop() == 0
        assert len(run.events("stopped")) == 1


async def test_down_to_none_and_up_again(start: Start) -> None:
    async with start(workers=1) as run:
        await run.event("ready")
        run.ask(Intent.FEWER)
        run.ask(Intent.FEWER)
        await eventually(lambda: run.it.supervisor.workers == {}, what="no worker")
        run.ask(Intent.MORE)
        await run.event("ready", 2)
        assert await run.stop() == 0


async def test_two_supervisors_have_disjoint_slots_and_leave_each_other_alone(start: Start) -> None:
    async with start(workers=2) as one, start(workers=2) as two:
        await one.event("ready", 4)
        mine, other = dict(one.it.supervisor.workers), dict(two.it.supervisor.workers)
        assert len({*mine, *other}) == 4
        assert await one.stop() == 0
        assert two.it.supervisor.workers == other
        assert await two.stop() == 0


async def test_an_error_in_the_supervisor_leaves_no_process(start: Start) -> None:
    async with start("deaf", workers=2, grace_s=60) as run:
        await run.event("ready", 2)
        run.it.canary.error = RuntimeError("a bug")
        with pytest.raises(RuntimeError, match="a bug"):
            await run.end()
        assert len(run.it.store.buried) == 2
        assert sorted(run.it.group.left) == [slot_id(0), slot_id(1)]


async def test_a_cancelled_supervisor_leaves_no_process(start: Start) -> None:
    async with start("deaf", workers=2, grace_s=60) as run:
        await run.event("ready", 2)
        run.ended.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run.end()
        assert [pid for pid in run.pids() if alive(pid)] == []
