"""The real supervisor on doubles: processes, slots, broker and store in memory. Nothing of the system is touched."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.support.poll import eventually
from yadtq.errors import BrokerUnavailable
from yadtq.outside import Outside, Place
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.seams import OutRecord
from yadtq.settings import Settings, SupervisorSettings
from yadtq.store.memory import MemoryStore
from yadtq.supervisor.assembly import assemble
from yadtq.supervisor.seams import Beat
from yadtq.supervisor.supervisor import Intent
from yadtq.testing.memory_slots import MemoryLockFolder, MemorySlots
from yadtq.wire.heartbeat import Heartbeat, seal
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from yadtq.runtime.seams import ConsumedRecord
    from yadtq.supervisor.seams import Order
    from yadtq.supervisor.supervisor import Supervisor

APP = "shop"


@dataclass
class Record:
    """A `ConsumedRecord`."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


class HeartbeatTopic:
    """One topic and the group's coordinator: what a supervisor needs of a broker."""

    def __init__(self) -> None:
        self.down = False
        self.records: list[OutRecord] = []
        self.left: list[str] = []
        self._readers: list[asyncio.Queue[Record]] = []

    def producer(self, *, timeout_s: float | None = None) -> HeartbeatTopic:
        return self

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def provision(self, queues: Any, partitions: int | None = None) -> None: ...

    async def append(self, records: Sequence[OutRecord]) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise BrokerUnavailable("down")
        self.records.extend(records)
        for record in records:
            for reader in self._readers:
                reader.put_nowait(Record(record.topic, record.value, record.key, headers=record.headers))

    def tail(self, topic: str, *, since_s: float = 0.0) -> AbstractAsyncContextManager[AsyncIterator[ConsumedRecord]]:
        @asynccontextmanager
        async def entered() -> AsyncIterator[AsyncIterator[ConsumedRecord]]:
            queue: asyncio.Queue[Record] = asyncio.Queue()
            self._readers.append(queue)

            async def records() -> AsyncIterator[ConsumedRecord]:
                while True:
                    yield await queue.get()

            try:
                yield records()
            finally:
                self._readers.remove(queue)

        return entered()

    async def leave(self, instance_ids: Sequence[str], *, timeout_s: float) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise BrokerUnavailable("down")
        self.left.extend(instance_ids)


class FakeProcess:
    """A `seams.Process` that does what its test says. obedient: it drains at once on SIGTERM."""

    out_of_memory = False

    def __init__(self, order: Order, pid: int, on_beat: Callable[[Beat], None]) -> None:
        self.order, self.slot, self.worker, self.pid = order, order.slot, order.worker, pid
        self.signals: list[int] = []
        self.obedient = True
        self._on_beat = on_beat
        self._seq = 0
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        return not self._code.done()

    def say(self, phase: str, error: str | None = None) -> None:
        self._seq += 1
        self._on_beat(Beat(phase, self._seq, error=error))

    def heartbeat(self, phase: Literal["running", "draining"] = "running") -> OutRecord:
        """What it appends to the heartbeat topic."""
        self._seq += 1
        order = self.order
        value = Heartbeat(
            worker=order.worker,
            slot=order.slot.id,
            supervisor=order.supervisor,
            host="host",
            pid=self.pid,
            phase=phase,
            seq=self._seq,
            at=time.time(),
        ).encode()
        return OutRecord("heartbeats", value, order.worker.encode(), headers=seal(value, order.secret))

    def exit(self, code: int) -> None:
        if self.alive:
            self._code.set_result(code)

    def signal(self, signum: int) -> None:
        self.signals.append(signum)
        if signum == signal.SIGTERM and self.obedient:
            self.exit(0)

    def kill(self) -> None:
        self.exit(-signal.SIGKILL)

    async def ended(self) -> int:
        return await asyncio.shield(self._code)


@dataclass
class FakeSpawn:
    """A `seams.Spawn`. on_spawn: what each new process does at once; by default it says that it runs."""

    on_spawn: Callable[[FakeProcess], None] = field(default=lambda process: process.say("running"))
    made: list[FakeProcess] = field(default_factory=list)
    #: So many calls raise OSError first.
    failures: int = 0

    async def __call__(self, order: Order, on_beat: Callable[[Beat], None]) -> FakeProcess:
        if self.failures:
            self.failures -= 1
            raise OSError("no more processes")
        process = FakeProcess(order, 1_000 + len(self.made), on_beat)
        self.made.append(process)
        # As on a system: nothing is heard from it before the caller has it.
        asyncio.get_running_loop().call_soon(self.on_spawn, process)
        return process

    def alive(self) -> list[FakeProcess]:
        return [process for process in self.made if process.alive]


class Fleet:
    """One supervisor and what it works on. `async with fleet.running():` runs it."""

    def __init__(
        self, *, topic: HeartbeatTopic | None = None, folder: MemoryLockFolder | None = None, seed: int = 1, **own: Any
    ) -> None:
        clock, chance = SystemClock(), random.Random(seed)
        self.settings = settings = Settings.load(kafka="127.0.0.1:1", heartbeat_s=0.05, lease_s=1)
        self.own = SupervisorSettings.load(**{"grace_s": 5.0, "backoff_s": 0.01, "backoff_cap_s": 0.05, **own})
        self.topic, self.spawn = topic or HeartbeatTopic(), FakeSpawn()
        self.slots = MemorySlots(APP, "host", folder or MemoryLockFolder())
        self.store = MemoryStore(clock, chance, settings)
        self.outside = Outside(
            broker=self.topic,  # type: ignore[arg-type]
            store=self.store,
            clock=clock,
            chance=chance,
            names=TopicNames(APP),
            place=Place("host", 1),
        )
        assembled = assemble(settings, self.own, self.outside, spawn=self.spawn, slots=self.slots)
        self.supervisor: Supervisor = assembled.supervisor
        self.status: int | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        """Ends it by STOP in the end, if it has not ended; `status` is set then."""
        run = asyncio.ensure_future(self.supervisor.run())
        try:
            yield self
        finally:
            self.supervisor.ask(Intent.STOP)
            async with asyncio.timeout(10):
                self.status = await run

    async def settled(self, workers: int) -> None:
        """Until so many workers live, and each has said that it runs."""
        await eventually(lambda: len(self.spawn.alive()) == workers, what=f"{workers} workers")
