"""Which fault comes next, and when: a function of the seed and of what the servers can do, nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.chaos import faults, intruders

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.faults import Fault
    from tests.chaos.fleet import Fleet
    from tests.chaos.world import World

_CUTS = ("black-hole", "deaf", "mute", "hold", "reset", "drop", "half-close", "delay", "cut")
_BROKER_ERRORS = (
    ("Produce", "REQUEST_TIMED_OUT", True),
    ("Produce", "NOT_LEADER_FOR_PARTITION", False),
    ("Fetch", "NOT_LEADER_FOR_PARTITION", False),
    ("OffsetCommit", "NOT_COORDINATOR", False),
    ("OffsetCommit", "COORDINATOR_LOAD_IN_PROGRESS", False),
    ("OffsetCommit", "REQUEST_TIMED_OUT", True),
    ("Heartbeat", "REBALANCE_IN_PROGRESS", False),
    ("Heartbeat", "UNKNOWN_MEMBER_ID", False),
    ("JoinGroup", "COORDINATOR_NOT_AVAILABLE", False),
)
_REFUSED = ("evalsha eval", "publish", "hget hmget")


class Scheduler:
    """`next()` makes a fault; `quiet_s()` is the time to leave between two."""

    def __init__(self, world: World, seed: int, *, storms_s: tuple[float, float] = (8.0, 20.0)) -> None:
        self._world = world
        self._rng = random.Random(f"faults/{seed}")
        self._storms_s = storms_s
        self._bag: list[Callable[[], Fault]] = []

    def quiet_s(self) -> float:
        return self._rng.uniform(0.3, 3.0)

    def next(self) -> Fault:
        """Drawn from a bag that holds every kind as often as it deserves, so that a short run meets most of them."""
        if not self._bag:
            self._bag = self._filled()
            self._rng.shuffle(self._bag)
        fault = self._bag.pop()()
        if fault.lasts_s >= 1 and self._rng.random() < 0.25:
            return faults.During(fault, self._kill())
        return fault

    def _filled(self) -> list[Callable[[], Fault]]:
        rng, servers = self._rng, self._world.servers
        weights: list[tuple[int, Callable[[], Fault]]] = [
            (4, self._kill),
            (2, self._freeze_worker),
            (1, self._freeze_worker_shortly),
            (1, lambda: faults.RollingRestart(self._fleet())),
            (1, lambda: faults.Scale(self._fleet(), rng.uniform(0.5, 3))),
            (1, lambda: faults.FreezeSupervisor(self._fleet(), rng.uniform(1, 5))),
            (1, lambda: faults.KillSupervisor(self._fleet())),
            (1, lambda: faults.Storm(self._party(), rng.uniform(*self._storms_s))),
            (2, lambda: faults.RestartServer("redis", rng.uniform(0.1, 0.3) * self._lease_s)),
            (1, lambda: faults.RestartServer("redis", 2 * self._lease_s)),
            (1, lambda: faults.FreezeServer("redis", rng.choice((0.2, 2)) * self._lease_s)),
            (1, lambda: faults.EmptyRedis(rng.random() < 0.5)),
            (1, lambda: faults.RestartServer("kafka", rng.uniform(0.1, 3))),
            (1, lambda: faults.FreezeServer("kafka", rng.choice((2.0, 15.0)))),
            (3, lambda: self._cut("redis")),
            (1, intruders.BadRecords),
            (1, intruders.DamagedKeys),
            (1, lambda: intruders.RefusingRedis(rng.choice(_REFUSED), 0.3 * self._lease_s)),
            (1, intruders.Guest),
            (1, lambda: intruders.Poison(rng.choice(("exit", "segfault", "abort")))),
        ]
        # On Apache Kafka the broker itself can't be made to err, on the devbroker nobody can be cut off from it alone.
        weights.append((3, lambda: self._cut("kafka")) if servers.control is None else (5, self._broker))
        return [make for count, make in weights for _ in range(count)]

    @property
    def _lease_s(self) -> float:
        return self._world.lease_s

    def _party(self) -> str:
        return self._rng.choice(sorted(self._world.fleets))

    def _fleet(self) -> Fleet:
        return self._world.fleets[self._party()]

    def _kill(self) -> Fault:
        return faults.KillWorker(self._fleet(), self._rng.randrange(8))

    def _freeze_worker(self) -> Fault:
        return faults.FreezeWorker(self._fleet(), self._rng.randrange(8), self._rng.uniform(2, 3) * self._lease_s)

    def _freeze_worker_shortly(self) -> Fault:
        return faults.FreezeWorker(self._fleet(), self._rng.randrange(8), self._rng.uniform(0.1, 0.4) * self._lease_s)

    def _cut(self, way: faults.Way) -> Fault:
        party = self._rng.choice(self._world.servers.parties)
        how = self._rng.choice(_CUTS)
        lasts_s = self._rng.choice((0.3 * self._lease_s, 0.3 * self._lease_s, 2.5 * self._lease_s))
        return faults.Cut(party, way, how, lasts_s)

    def _broker(self) -> Fault:
        match self._rng.randrange(5):
            case 0:
                return faults.MoveLeaders()
            case 1:
                return faults.MoveCoordinator()
            case 2:
                request = self._rng.choice(("Fetch", "Produce", "Heartbeat", "OffsetCommit"))
                return faults.BrokerDrops(request, self._rng.randint(1, 5))
            case _:
                request, error, applied = self._rng.choice(_BROKER_ERRORS)
                return faults.BrokerErrors(request, error, self._rng.randint(1, 5), applied)
