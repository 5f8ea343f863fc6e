"""What is done to a world: each fault injects, heals, and says which tasks it may have run a second time.

Most may not. A fault says so by leaving no `Touch`: the end or the freeze of a server, a rebalance, a deploy and a slow
network must cost no task a second execution. Only what parts a worker from its lease does: its death, a silence longer
than the lease, and the loss of what Redis knew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from redis.asyncio import Redis

from tests.chaos.oracle import Touch
from tests.support.poll import eventually
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from tests.chaos.fleet import Fleet, WorkerRef
    from tests.chaos.world import World
    from tests.support.proxy import Proxy

Way = Literal["kafka", "redis"]
RECOVERS_S = 60.0
PARTITIONS = 4  # of the tasks topic, by default


class Fault(ABC):
    """inject, then heal; `lasts_s` in between. Both return when it is so."""

    kind: ClassVar[str]
    lasts_s: float

    @abstractmethod
    async def inject(self, world: World) -> None: ...

    async def heal(self, world: World) -> None:  # noqa: B027 - nothing to do, unless it lasts
        """Nothing to do, unless it lasts."""

    def describe(self) -> str:
        return f"{self.kind} {self.lasts_s:.1f} s" if self.lasts_s else self.kind


class Blow(Fault):
    """Over as soon as it is done."""

    lasts_s = 0.0


def _touch(world: World, kind: str, since: float, workers: frozenset[str] | None = None) -> None:
    world.touches.append(Touch(kind, since, world.pace.now(), workers))


def _since(world: World) -> float:
    """From when on a worker's end may cost it what it had finished: while Redis is away, outcomes lie in its memory."""
    return min(world.pace.now(), *world.redis_away.values(), float("inf"))


def _kill(ref: WorkerRef, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(ref.pid, number)


# Workers


@dataclass
class KillWorker(Blow):
    """SIGKILL to one worker of a fleet; which = its place among the living."""

    kind = "kill-worker"
    fleet: Fleet
    which: int = 0
    victim: WorkerRef | None = None

    async def inject(self, world: World) -> None:
        workers = self.fleet.workers()
        if not workers:
            return
        self.victim = workers[self.which % len(workers)]
        since = _since(world)
        _kill(self.victim, signal.SIGKILL)
        await eventually(
            lambda: self.victim not in self.fleet.workers(), timeout=10, what=f"the death of {self.victim.id}"
        )
        _touch(world, self.kind, since, frozenset({self.victim.id}))

    async def heal(self, world: World) -> None:
        await eventually(
            self.fleet.all_ready, timeout=RECOVERS_S, interval=0.05, what=f"the successor in {self.fleet.name}"
        )

    def describe(self) -> str:
        return f"{self.kind} {self.victim.id if self.victim else ''}"


@dataclass
class FreezeWorker(Fault):
    """SIGSTOP to one worker; beyond its lease it wakes up as a zombie."""

    kind = "freeze-worker"
    fleet: Fleet
    which: int
    lasts_s: float
    victim: WorkerRef | None = None
    since: float = 0.0
    finished_since: float = 0.0

    async def inject(self, world: World) -> None:
        workers = self.fleet.workers()
        if not workers:
            return
        self.victim = workers[self.which % len(workers)]
        self.since = world.pace.now()
        self.finished_since = _since(world)
        _kill(self.victim, signal.SIGSTOP)

    async def heal(self, world: World) -> None:
        if self.victim is not None:
            _kill(self.victim, signal.SIGCONT)
            if world.pace.now() - self.since > world.lease_s / 2:
                _touch(world, self.kind, self.finished_since, frozenset({self.victim.id}))

    def describe(self) -> str:
        return f"{self.kind} {self.victim.id if self.victim else ''} {self.lasts_s:.1f} s"


@dataclass
class RollingRestart(Blow):
    """SIGHUP to a supervisor: a deploy. Excuses nothing."""

    kind = "rolling-restart"
    fleet: Fleet
    before: frozenset[str] = frozenset()

    async def inject(self, world: World) -> None:
        self.before = frozenset(ref.id for ref in self.fleet.workers())
        self.fleet.signal(signal.SIGHUP)

    async def heal(self, world: World) -> None:
        await self.fleet.rolled(self.before, timeout=RECOVERS_S)


@dataclass
class Scale(Fault):
    """A worker more, and then one less. Excuses nothing."""

    kind = "scale"
    fleet: Fleet
    lasts_s: float

    async def inject(self, world: World) -> None:
        self.fleet.signal(signal.SIGTTIN)
        await eventually(lambda: len(self.fleet.workers()) > self.fleet.size, timeout=RECOVERS_S, what="one more")

    async def heal(self, world: World) -> None:
        self.fleet.signal(signal.SIGTTOU)
        await eventually(lambda: len(self.fleet.workers()) == self.fleet.size, timeout=RECOVERS_S, what="one less")


@dataclass
class FreezeSupervisor(Fault):
    """Workers go on without it. Excuses nothing."""

    kind = "freeze-supervisor"
    fleet: Fleet
    lasts_s: float

    async def inject(self, world: World) -> None:
        self.fleet.signal(signal.SIGSTOP)

    async def heal(self, world: World) -> None:
        self.fleet.signal(signal.SIGCONT)


@dataclass
class KillSupervisor(Blow):
    """Its workers see their pipe end, drain and go; a new supervisor starts others. Excuses nothing."""

    kind = "kill-supervisor"
    fleet: Fleet

    async def inject(self, world: World) -> None:
        self.fleet.signal(signal.SIGKILL)
        await self.fleet.ended()

    async def heal(self, world: World) -> None:
        await eventually(lambda: not self.fleet.leftovers(), timeout=RECOVERS_S, interval=0.1, what="no orphans")
        await self.fleet.start()


@dataclass
class Storm(Fault):
    """Members without a static id join and leave, one each `every_s`. Excuses nothing."""

    kind = "rebalance-storm"
    party: str
    lasts_s: float
    every_s: float = 2.0
    rebalances: int = 0
    since: float = 0.0
    _over: bool = False
    _task: asyncio.Task[None] | None = None

    async def inject(self, world: World) -> None:
        self.since = world.pace.now()
        self._task = asyncio.create_task(self._blow(world), name=self.kind)

    async def _blow(self, world: World) -> None:
        while not self._over:
            due = world.pace.now() + self.every_s
            worker = await world.worker(f"passer-by-{len(world.workers)}", self.party, concurrency=5)
            await world.pace.until(due)
            due = world.pace.now() + self.every_s
            self.rebalances += 2
            # It leaves with its last task, so another may come before it has gone.
            worker.signal(signal.SIGTERM)
            await world.pace.until(due)

    async def heal(self, world: World) -> None:
        self._over = True
        if self._task is not None:
            await self._task
        for name, worker in world.workers.items():
            if name.startswith("passer-by"):
                assert await worker.ended() == 0, worker.text()[-2000:]


# Servers


@dataclass
class RestartServer(Fault):
    """SIGKILL, a while of nothing, and a start with all that it had written. Excuses nothing, within the lease.

    clean: SIGTERM, as its operator would.
    """

    way: Way
    lasts_s: float
    clean: bool = False
    since: float = 0.0

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"restart-{self.way}"

    async def inject(self, world: World) -> None:
        self.since = world.pace.now()
        if self.way == "redis":
            world.redis_away[self.kind] = self.since
        server = getattr(world.servers, self.way)
        await (server.stop() if self.clean else server.kill())

    async def heal(self, world: World) -> None:
        await getattr(world.servers, self.way).start()
        _outage(self, world)


@dataclass
class FreezeServer(Fault):
    """SIGSTOP: connections stay and nothing answers. Excuses nothing, within the lease."""

    way: Way
    lasts_s: float
    since: float = 0.0

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"freeze-{self.way}"

    async def inject(self, world: World) -> None:
        self.since = world.pace.now()
        if self.way == "redis":
            world.redis_away[self.kind] = self.since
        await getattr(world.servers, self.way).freeze()

    async def heal(self, world: World) -> None:
        await getattr(world.servers, self.way).thaw()
        _outage(self, world)


def _outage(fault: RestartServer | FreezeServer, world: World) -> None:
    """While Redis was away leases could not be renewed: after a long outage, whoever asks first has the task."""
    world.redis_away.pop(fault.kind, None)
    if fault.way == "redis" and world.pace.now() - fault.since > world.lease_s / 2:
        _touch(world, fault.kind, fault.since)


@dataclass
class EmptyRedis(Blow):
    """All of Redis's data are lost: by a restart without its files, or by FLUSHALL. Every task before may run again."""

    kind = "empty-redis"
    restart: bool

    async def inject(self, world: World) -> None:
        # Nothing may change between the last look at what was final and the loss: there will be no other witness.
        for proxy in world.servers.redis_proxies.values():
            proxy.hold()
        await world.pace.pause(0.05)
        await world.states.look(world.task_ids())
        if self.restart:
            await world.servers.redis.kill()
            await world.servers.erase_redis()
            world.losses.append(world.pace.now())
            await world.servers.redis.start()
        else:
            async with Redis.from_url(world.servers.direct_redis) as redis:
                await redis.flushall()
            world.losses.append(world.pace.now())
        for proxy in world.servers.redis_proxies.values():
            proxy.heal()
        _touch(world, self.kind, float("-inf"))

    def describe(self) -> str:
        return f"{self.kind} ({'restart without data' if self.restart else 'FLUSHALL'})"


# Network


@dataclass
class Cut(Fault):
    """One party's way to one server: cut, one-way, slow, reset. To Redis for longer than the lease, it costs it."""

    party: str
    way: Way
    how: str
    lasts_s: float
    since: float = 0.0

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"{self.how}-{self.way}"

    async def inject(self, world: World) -> None:
        self.since = world.pace.now()
        if self.way == "redis":
            world.redis_away[self.kind] = self.since
        self._break(self._proxy(world))

    def _proxy(self, world: World) -> Proxy:
        return (world.servers.kafka_proxies if self.way == "kafka" else world.servers.redis_proxies)[self.party]

    def _break(self, proxy: Proxy) -> None:
        match self.how:
            case "black-hole":
                proxy.black_hole()
            case "deaf":  # requests arrive, answers don't
                proxy.black_hole(up=False, down=True)
            case "mute":  # requests vanish
                proxy.black_hole(up=True, down=False)
            case "hold":
                proxy.hold()
            case "reset":
                proxy.reset()
            case "drop":
                proxy.drop()
            case "half-close":
                proxy.half_close()
            case "delay":
                proxy.delay(0.1, jitter=0.1)
            case "cut":  # connections break in the middle of a frame, again and again
                proxy.cut_after(2_000, spread=20_000)
            case _:
                raise ValueError(self.how)

    async def heal(self, world: World) -> None:
        self._proxy(world).heal()
        world.redis_away.pop(self.kind, None)
        leases = self.way == "redis" and self.party in world.fleets and self.how not in ("delay", "drop", "half-close")
        if leases and world.pace.now() - self.since > world.lease_s / 2:
            # Everything that ran in this fleet, also in workers that were replaced meanwhile.
            _touch(world, self.kind, self.since)

    def describe(self) -> str:
        return f"{self.kind} of {self.party} {self.lasts_s:.1f} s"


@dataclass
class During(Fault):
    """One fault in the middle of another."""

    outer: Fault
    inner: Fault

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"{self.inner.kind} during {self.outer.kind}"

    @property
    def lasts_s(self) -> float:  # type: ignore[override]
        return self.outer.lasts_s

    async def inject(self, world: World) -> None:
        await self.outer.inject(world)
        await world.pace.pause(min(0.5, self.outer.lasts_s / 3))
        await self.inner.inject(world)

    async def heal(self, world: World) -> None:
        await self.outer.heal(world)
        await self.inner.heal(world)

    def describe(self) -> str:
        return f"{self.inner.describe()} during {self.outer.describe()}"


# The broker's own mistakes, by the devbroker's control channel


@dataclass
class BrokerErrors(Blow):
    """The next requests of a kind get an error; `applied`: though the broker did as it was told. Excuses nothing."""

    kind = "broker-error"
    request: str
    error: str
    count: int
    applied: bool = False

    async def inject(self, world: World) -> None:
        assert world.servers.control is not None
        await world.servers.control.fail(self.request, self.error, count=self.count, applied=self.applied)

    async def heal(self, world: World) -> None:
        assert world.servers.control is not None
        await world.servers.control.clear()

    def describe(self) -> str:
        return f"{self.kind} {self.count} × {self.error} to {self.request}{' (applied)' if self.applied else ''}"


@dataclass
class BrokerDrops(Blow):
    """The next requests of a kind find their connection closed. Excuses nothing."""

    kind = "broker-drop"
    request: str
    count: int

    async def inject(self, world: World) -> None:
        assert world.servers.control is not None
        await world.servers.control.drop(self.request, count=self.count)

    async def heal(self, world: World) -> None:
        assert world.servers.control is not None
        await world.servers.control.clear()

    def describe(self) -> str:
        return f"{self.kind} {self.count} × {self.request}"


@dataclass
class MoveLeaders(Blow):
    """Every partition of the tasks topic gets another leader. Excuses nothing."""

    kind = "move-leaders"

    async def inject(self, world: World) -> None:
        control = world.servers.control
        assert control is not None
        for partition in range(PARTITIONS):
            await control.move_leader(TopicNames(world.app).tasks("default"), partition)


@dataclass
class MoveCoordinator(Blow):
    """The group gets another coordinator. Excuses nothing."""

    kind = "move-coordinator"

    async def inject(self, world: World) -> None:
        assert world.servers.control is not None
        await world.servers.control.move_coordinator(TopicNames(world.app).group)
