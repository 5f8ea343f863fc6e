"""Servers, a fleet and clients in one world, put together from a plan."""

from __future__ import annotations

import asyncio
import random
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from yadtq.outside import Outside, Place
from yadtq.runtime.seams import OutRecord
from yadtq.settings import WorkerSettings
from yadtq.testing.sim.broker import SimBroker
from yadtq.testing.sim.fleet import Fleet
from yadtq.testing.sim.invariants import Judge, Touch
from yadtq.testing.sim.kafka import SimKafka
from yadtq.testing.sim.load import Job, Ledger, Submissions, make_app, submit_all
from yadtq.testing.sim.net import Link
from yadtq.testing.sim.node import SimClock
from yadtq.testing.sim.redis import SimRedis, SimStore
from yadtq.wire.envelope import Envelope, encode_envelope
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from yadtq.app import Yadtq
    from yadtq.store.verbs import Store
    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["Plan", "Scenario"]

_APP = "sim"
_REGISTERED_S = 0.5
_BALANCE_S = 2.0


@dataclass
class Plan:
    """clients: of each, (seconds to wait, jobs to submit then) in turns. settings, options: as keywords."""

    workers: int = 2
    hosts: int = 1
    partitions: int = 4
    clients: Sequence[Sequence[tuple[float, Sequence[Job]]]] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    skew_s: float = 0.0
    #: Workers in slots with an odd number run the code before a deploy.
    two_versions: bool = False


class Scenario:
    """Call `start()`, then `world.run(...)`; `calm()` stops the faults."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        random.seed(world.seed)
        self.names = TopicNames(_APP)
        self.task_prefix = f"yadtq.{_APP}.tasks."
        self.ledger = Ledger(world)
        self.app = make_app(_APP, self.ledger, self._crash, num_partitions=plan.partitions, **plan.settings)
        self.old_app = make_app(
            _APP, self.ledger, self._crash, old=True, num_partitions=plan.partitions, **plan.settings
        )
        self.settings = self.app.settings
        self.options = WorkerSettings.load(**plan.options)
        clock = SimClock(world)
        self.redis = SimRedis(world, clock, random.Random(world.rng.getrandbits(64)), self.settings)
        self.kafka = SimKafka(world, clock)
        self.kafka.provision(self.names.tasks("default"), plan.partitions)
        self.kafka.provision(self.names.heartbeats, 1, compacted=True)
        self.kafka.provision(self.names.dead, 1)
        self.kafka.on_reset.append(lambda _: self._give_up_deleted())
        self.judge = Judge(world, redis=self.redis, kafka=self.kafka, ledger=self.ledger, task_topics=self.task_prefix)
        self.links: dict[str, dict[str, Link]] = {}
        self.jobs: dict[str, Job] = {job.task_id: job for client in plan.clients for _, jobs in client for job in jobs}
        self.notes = Submissions()
        self._nodes: dict[str, Node] = {}
        self.fleet = Fleet(self, plan.workers, hosts=plan.hosts, grace_s=self.options.grace_s)
        self.clients: list[Node] = []
        self._calm_at: float | None = None

    def outside(self, node: Node) -> Outside:
        """What a process is given."""
        kafka, redis = Link(node, self.kafka), Link(node, self.redis)
        self.links[node.name] = {"kafka": kafka, "redis": redis}
        return Outside(
            broker=SimBroker(self.kafka, kafka, self.settings, self.names),
            store=cast("Store", SimStore(self.redis, redis, self.settings)),
            clock=node.clock,
            chance=node.chance,
            names=self.names,
            place=Place("simulated", 1000 + len(self.links)),
        )

    def app_in(self, slot: int) -> Yadtq:
        """The code that the workers in this slot run."""
        return self.old_app if self.plan.two_versions and slot % 2 else self.app

    def skew(self) -> float:
        return self.world.rng.uniform(-self.plan.skew_s, self.plan.skew_s) if self.plan.skew_s else 0.0

    def start(self) -> None:
        self.fleet.start()
        for number, turns in enumerate(self.plan.clients):
            self.clients.append(
                self.world.node(
                    f"client{number}",
                    lambda node, turns=turns: submit_all(
                        node, self.outside(node), self.app, plan=turns, notes=self.notes
                    ),  # type: ignore[misc]
                    on_end=self._client_ended,
                )
            )
        self.world.call_later(_BALANCE_S, self._check_balance)

    def _client_ended(self, node: Node, error: BaseException | None) -> None:
        if error is not None:
            self.world.fail(f"{node.name} failed: {type(error).__name__}: {error}")

    def _check_balance(self) -> None:
        for problem in self.fleet.problems():
            self.world.fail(problem)
        if self._calm_at is not None and self.world.now - self._calm_at > self._settled_s:
            self._check_known()
        self.world.call_later(_BALANCE_S, self._check_balance)

    @property
    def _settled_s(self) -> float:
        """When all is well for so long, workers have written again what a loss of data took."""
        return self.settings.lease_s + self.settings.session_timeout_s + 10.0

    def _check_known(self) -> None:
        """A status call for a task that waits in Kafka must not raise `TaskNotFound`."""
        for task_id in sorted((self.judge.unfinished & self.notes.acknowledged.keys()) - self.judge.damaged):
            if self.world.now - self.notes.acknowledged[task_id] < _REGISTERED_S:
                continue  # its QUEUED follows the acknowledgement within milliseconds
            if self.jobs[task_id].kind != "unknown" and self.judge._state(task_id).status is None:
                self.world.fail(f"Redis knows nothing of {task_id}, which waits in Kafka")
                return

    def _crash(self, worker: str) -> None:
        self.touch("crash", 0.0, worker)
        running = asyncio.get_running_loop()
        node = next(node for node in self.world.nodes if node.loop.as_asyncio is running)
        self.world.kill(node, by=signal.SIGSEGV)

    def touch(self, kind: str, seconds: float, *workers: str) -> None:
        """A fault begins that may cause second executions of what these workers run (none named: all)."""
        now = self.world.now
        self.judge.touches.append(Touch(kind, now, now + seconds, frozenset(workers) or None))

    def _give_up_deleted(self) -> None:
        self.world.call_later(0.0, lambda: self.notes.given_up.update(self.judge.deleted))

    def kill_client(self, chance: random.Random) -> None:
        """Its waits end with it, and what it has not submitted is never submitted."""
        alive = [number for number, client in enumerate(self.clients) if client.alive]
        if alive:
            number = chance.choice(alive)
            self.world.kill(self.clients[number])
            self.notes.waiting = {task_id for task_id in self.notes.waiting if not task_id.startswith(f"c{number}.")}

    def kill_child(self, chance: random.Random) -> None:
        """A child process in which suspects run is killed from outside."""
        if children := [node for node in self.world.nodes if node.alive and ".child" in node.name]:
            child = chance.choice(children)
            self.touch("kill-child", 0.0, child.name.partition(".child")[0])
            self.world.kill(child)

    def damage(self, chance: random.Random) -> None:
        """What the store holds of some task can't be read any more."""
        if self.notes.acknowledged:
            self.judge.damage(chance.choice(sorted(self.notes.acknowledged)))

    def calm(self) -> None:
        """The end of all faults; what has begun to happen to a process goes on to its end."""
        self.world.note("world", "calm")
        self._calm_at = self.world.now
        self.redis.calm()
        self.kafka.calm()
        for node in self.world.nodes:
            node.loop.slow_s = 0.0
            if node.frozen:
                node.loop.frozen_until = self.world.now
                node.loop.thaw()
        for links in self.links.values():
            for link in links.values():
                link.cut_in = link.cut_out = 0.0

    def foreign(self, chance: random.Random) -> None:
        """A record of another producer: what was sent already, an unknown task, or no task at all."""
        if not self.kafka.available:
            return
        topic = self.names.tasks("default")
        kind = chance.randrange(3)
        if kind == 0 and self.notes.acknowledged:
            job = self.jobs[chance.choice(sorted(self.notes.acknowledged))]
            value = encode_envelope(Envelope(job.task_id, job.kind, [job.seconds, job.trouble]))
        elif kind == 1:
            job = Job(f"foreign.{len(self.jobs)}", "unknown")
            self.jobs[job.task_id] = job
            self.notes.acknowledged[job.task_id] = self.world.now
            value = encode_envelope(Envelope(job.task_id, job.kind, []))
        else:
            value = b"no task"
        self.kafka.append_now(OutRecord(topic, value))

    @property
    def all_ended(self) -> bool:
        return not self.judge.unfinished and not any(client.alive for client in self.clients)

    def uncommitted(self) -> list[tuple[int, int, int]]:
        """Partition, committed offset and end of those that are not committed up to their end.

        What was truncated had been committed, even if the answer to an older commit was overtaken and set it back.
        """
        committed = self.kafka.group(self.names.group).committed
        offsets = {
            place: max(committed.get(place, 0), log.start)
            for place, log in self.kafka.logs.items()
            if place[0].startswith(self.task_prefix)
        }
        return [
            (place[1], offset, self.kafka.logs[place].end)
            for place, offset in offsets.items()
            if offset != self.kafka.logs[place].end
        ]

    def where_is(self, task_id: str) -> str:
        """For a report."""
        state = self.judge._state(task_id)
        held = [
            f"{process.worker} holds it, {delivery.place.value}"
            for process in self.fleet.alive()
            if process.real is not None
            for delivery in process.real.parts.partitions.in_flight()
            if delivery.envelope.id == task_id
        ]
        where = "; ".join(held) or "nobody holds it"
        return f"{state.status} of attempt {state.attempt} by {state.worker or 'nobody'}; {where}"
