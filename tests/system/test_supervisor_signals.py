"""The supervisor as a process of its own: what its signals do, and what becomes of its workers when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.poll import consistently, eventually
from tests.system.supervised import APP, read_log, slot_id, write_mode
from yadtq.supervisor.slots import SlotLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Launch = Callable[[int], Awaitable["Process"]]

ROOT = Path(__file__).parents[2]


class Process:
    def __init__(self, process: asyncio.subprocess.Process, directory: Path, log: Path) -> None:
        self.process, self.directory, self.log = process, directory, log

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def count(self, event: str) -> int:
        """Events of that name in the log."""
        return self.log.read_text().count(f"event={event} ")

    async def event(self, name: str, count: int) -> None:
        await eventually(lambda: self.count(name) >= count, what=f"{count} events {name!r}")

    def is_gone(self) -> bool:
        return not self.living()

    def living(self) -> set[int]:
        pids = {int(pid) for _event, _worker, pid, _ppid in read_log(self.directory)}
        return {pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"}

    async def end(self) -> int:
        async with asyncio.timeout(15):
            return await self.process.wait()


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    launched: list[Process] = []

    async def start(workers: int) -> Process:
        write_mode(tmp_path, "ok")
        log = tmp_path / f"supervisor-{len(launched)}.log"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.system.supervised", str(workers)),
                cwd=ROOT,
                env={**os.environ, "FAKE_DIR": str(tmp_path)},
                stderr=stderr,
            )
        launched.append(Process(process, tmp_path, log))
        await launched[-1].event("ready", workers)
        return launched[-1]

    yield start
    for each in launched:
        if each.process.returncode is None:
            each.signal(signal.SIGKILL)
            await each.end()
    for each in launched:
        await eventually(each.is_gone, what="the workers' end")


async def test_sigterm_drains_and_ends(launch: Launch) -> None:
    supervisor = await launch(2)
    supervisor.signal(signal.SIGTERM)
    assert await supervisor.end() == 0
    assert supervisor.living() == set()
    assert [event for event, *_ in read_log(supervisor.directory)].count("end") == 2


async def test_sigint_is_the_same(launch: Launch) -> None:
    supervisor = await launch(1)
    supervisor.signal(signal.SIGINT)
    assert await supervisor.end() == 0
    assert supervisor.count("stopped") == 1


async def test_sighup_restarts_and_ttin_and_ttou_scale(launch: Launch) -> None:
    supervisor = await launch(2)
    supervisor.signal(signal.SIGHUP)
    await supervisor.event("ready", 4)
    supervisor.signal(signal.SIGTTIN)
    await supervisor.event("ready", 5)
    assert len(supervisor.living()) == 3
    supervisor.signal(signal.SIGTTOU)
    await supervisor.event("left-group", 1)
    assert len(supervisor.living()) == 2


async def test_when_it_is_killed_all_workers_see_it_and_drain(launch: Launch, tmp_path: Path) -> None:
    supervisor = await launch(3)
    supervisor.signal(signal.SIGKILL)
    await supervisor.end()
    # Each of them: a sibling that had inherited the other end of a pipe would keep its neighbour waiting for ever.
    await eventually(lambda: not supervisor.living(), timeout=5, what="the workers' end")
    assert [event for event, *_ in read_log(tmp_path)].count("orphaned") == 3


async def test_slots_of_a_killed_supervisor_are_free_only_when_its_workers_are_gone(
    launch: Launch, tmp_path: Path
) -> None:
    supervisor = await launch(1)
    (worker,) = supervisor.living()
    os.kill(worker, signal.SIGSTOP)  # draining may take long
    supervisor.signal(signal.SIGKILL)
    await supervisor.end()
    locks = SlotLocks(APP, directory=tmp_path / "locks", host="host")
    assert locks.take().id == slot_id(1)
    os.kill(worker, signal.SIGCONT)
    await eventually(lambda: not supervisor.living(), what="the worker's end")
    assert locks.take().id == slot_id(0)
    locks.release_all()


async def test_a_frozen_supervisor_stops_nobody_and_condemns_nobody_afterwards(launch: Launch) -> None:
    supervisor = await launch(2)
    before = supervisor.living()
    supervisor.signal(signal.SIGSTOP)
    await consistently(lambda: supervisor.living() == before, during=1.5)  # longer than its silence_s
    supervisor.signal(signal.SIGCONT)
    await consistently(lambda: supervisor.living() == before, during=1.0)
    assert supervisor.count("killing") == 0
