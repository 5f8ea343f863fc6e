"""A supervisor over fake workers, with stand-ins for Kafka and Redis: only processes, pipes and signals are real.

As a program (`python -m tests.system.supervised DIRECTORY WORKERS`) it is one that tests may kill, freeze and signal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.errors import BrokerUnavailable, StoreUnavailable
from yadtq.outside import Outside, Place
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.service import Service
from yadtq.settings import Settings, SupervisorSettings
from yadtq.supervisor.process import Spawner
from yadtq.supervisor.slots import SlotLocks
from yadtq.supervisor.supervisor import Supervisor, SupervisorParts
from yadtq.supervisor.twins import Twins
from yadtq.supervisor.undertaker import Undertaker
from yadtq.supervisor.watch import LivenessTable
from yadtq.wire.heartbeat import Heartbeat
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.seams import OutRecord

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
APP = "shop"
COMMAND = (sys.executable, "-S", str(FAKE_WORKER))


@dataclass
class Morgue:
    """Stands in for Redis: who was certified. `down`: so many calls fail."""

    down: int = 0
    buried: list[str] = field(default_factory=list)

    async def bury(self, worker: str, *, outside: bool = False) -> None:
        if self.down > 0:
            self.down -= 1
            raise StoreUnavailable("Redis is down")
        self.buried.append(worker)


@dataclass
class Topic:
    """Stands in for the heartbeat topic: what was announced on it."""

    down: bool = False
    announced: list[Heartbeat] = field(default_factory=list)

    async def append(self, records: Sequence[OutRecord]) -> None:
        if self.down:
            raise BrokerUnavailable("Kafka is down")
        self.announced.extend(Heartbeat.decode(record.value) for record in records)


@dataclass
class Group:
    """Stands in for the consumer group's coordinator: who has left it. Waits for `open`."""

    left: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def leave(self, instance_ids: Sequence[str], *, timeout_s: float) -> None:
        await self.open.wait()
        self.left.extend(instance_ids)


class Canary(Service):
    """Stands in for the topic watch: the topic is visible while it sings. `error`: it fails."""

    name = "canary"

    def __init__(self, table: LivenessTable) -> None:
        self._table = table
        self.singing = True
        self.error: Exception | None = None
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._stopped:
            if self.error is not None:
                raise self.error
            if self.singing:
                self._table.canary()
            await asyncio.sleep(0.02)


class Supervised:
    """One supervisor in this process. `directory` is the fake workers' FAKE_DIR, and holds the slot locks."""

    def __init__(self, directory: Path, **own: Any) -> None:
        clock = SystemClock()
        self.directory = directory
        self.own = SupervisorSettings.load(**{"grace_s": 5.0, "backoff_s": 0.05, "backoff_cap_s": 0.2, **own})
        settings = Settings.load(kafka="127.0.0.1:1", heartbeat_s=0.05, lease_s=1)
        self.store, self.topic, self.group = Morgue(), Topic(), Group()
        table = LivenessTable(
            clock=clock,
            heartbeat_s=settings.heartbeat_s,
            silence_s=self.own.silence_s,
            start_timeout_s=self.own.start_timeout_s,
        )
        self.canary = Canary(table)
        outside = Outside(
            broker=self.group,  # type: ignore[arg-type]
            store=SimpleNamespace(deaths=self.store),
            clock=clock,
            chance=random.SystemRandom(),
            names=TopicNames(APP),
            place=Place("host", os.getpid()),
        )
        parts = SupervisorParts(
            spawn=Spawner(COMMAND),
            slots=SlotLocks(APP, directory=directory / "locks", host="host"),
            table=table,
            twins=Twins(prefix=f"host.{APP}.slot-", supervisor="1-a", clock=clock, heartbeat_s=settings.heartbeat_s),
            undertaker=Undertaker(outside=outside, settings=settings, producer=self.topic),  # type: ignore[arg-type]
            watch=self.canary,
        )
        self.supervisor = Supervisor(own=self.own, parts=parts, outside=outside)

    def set_mode(self, mode: str, slot: int | None = None) -> None:
        """For workers started from now on."""
        write_mode(self.directory, mode, slot)

    def log(self) -> list[list[str]]:
        """Of the fake workers: [event, worker, pid, ppid]."""
        return read_log(self.directory)


def slot_id(number: int) -> str:
    return f"host.{APP}.slot-{number}"


def write_mode(directory: Path, mode: str, slot: int | None = None) -> None:
    name = "mode" if slot is None else slot_id(slot)
    (directory / f"{name}.new").write_text(mode)
    (directory / f"{name}.new").rename(directory / name)


def read_log(directory: Path) -> list[list[str]]:
    path = directory / "log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


async def _main() -> int:
    from yadtq.supervisor.__main__ import obey_signals

    supervised = Supervised(Path(os.environ["FAKE_DIR"]), workers=int(sys.argv[1]), silence_s=1.0)
    obey_signals(supervised.supervisor)
    return await supervised.supervisor.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    sys.exit(asyncio.run(_main()))
