"""The judge of a simulation: what must hold at every step, and what at the end.

At every step: the store's transitions, the fence, certificates, final states; the broker's commits. At the end: each
accepted task has ended once, in the way it had to, and ran as often as its faults explain.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from yadtq.errors import EnvelopeError
from yadtq.store.tasks.verbs import SUSPECT, WAIT
from yadtq.wire.envelope import decode_envelope
from yadtq.wire.states import TRANSITIONS, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from yadtq.runtime.seams import Partition
    from yadtq.testing.memory_log import MemoryRecord
    from yadtq.testing.sim.kafka import SimKafka
    from yadtq.testing.sim.load import Ledger, Run
    from yadtq.testing.sim.redis import SimRedis
    from yadtq.testing.sim.world import World

__all__ = ["End", "Judge", "Touch"]


#: Kinds of faults after which the store does not know any more what had ended.
DATA_LOST = ("loss", "back in time")


class End(NamedTuple):
    """How a task ended, as the store took it."""

    status: TaskStatus
    payload: bytes
    attempt: int
    nonce: str
    at: float


@dataclass(frozen=True, slots=True)
class Touch:
    """A fault that may cause second executions of what these workers ran then. workers: None means all."""

    kind: str
    since: float
    until: float
    workers: frozenset[str] | None = None

    def meets(self, run: Run, slack_s: float) -> bool:
        if (self.workers is not None and run.worker not in self.workers) or run.started_at > self.until:
            return False
        if self.kind in DATA_LOST:
            return True  # that it had ended is forgotten: another record of it runs again
        return run.ended_at is None or run.ended_at + slack_s >= self.since


class _State(NamedTuple):
    status: TaskStatus | None
    attempt: int
    nonce: str
    worker: str
    payload: bytes


_NOTHING = _State(None, 0, "", "", b"")


class Judge:
    """Listens to the servers and to the ledger; `world.fail` at the first violation."""

    def __init__(self, world: World, *, redis: SimRedis, kafka: SimKafka, ledger: Ledger, task_topics: str) -> None:
        self._world = world
        self._redis = redis
        self._kafka = kafka
        self._ledger = ledger
        self._prefix = task_topics
        self.ended: dict[str, End] = {}
        #: Tasks with a record that have not ended.
        self.unfinished: set[str] = set()
        self.touches: list[Touch] = []
        #: (attempt, nonce) of the last grant since the last loss of data.
        self._granted: dict[str, tuple[int, str]] = {}
        self._started: dict[tuple[str, str], int] = {}
        self._owner: dict[str, str] = {}
        self._copies: dict[str, set[tuple[Partition, int]]] = defaultdict(set)
        self._ids: dict[tuple[Partition, int], str] = {}
        #: Tasks whose last record went with its topic, and tasks whose state was damaged: their end is nobody's promise.
        self.deleted: set[str] = set()
        self.damaged: set[str] = set()
        self.dead: set[tuple[Partition, int]] = set()
        redis.watch = self._watch
        redis.on_loss.append(self._granted.clear)
        kafka.on_append.append(self._appended)
        kafka.on_commit.append(self._committed)
        kafka.on_reset.append(self._reset)
        ledger.on_start.append(self._ran)

    # The store

    def _watch(self, verb: str, args: tuple[Any, ...]) -> Callable[[Any], None] | None:
        if verb == "claim":
            items = args[1]
        elif verb in ("renew", "finish", "release"):
            items = args[-1]
        else:
            return None
        before = [self._state(item[0]) for item in items]

        def after(answers: Sequence[Any]) -> None:
            for item, was, answer in zip(items, before, answers, strict=True):
                if item[0] in self.damaged:
                    self._note_end_of_damaged(verb, item, answer)
                    continue
                now = self._state(item[0])
                if verb != "claim":
                    self._check_transition(verb, item, was, now)
                if verb == "claim":
                    self._check_claim(args[0], item, was=was, now=now, reply=answer)
                elif verb == "finish" and answer:
                    self._check_finish(item, was, now)
                elif verb == "renew" and answer:
                    self._check_renewal(item, now)

        return after

    def _state(self, task_id: str) -> _State:
        task = self._redis.data.tasks._tasks.get(task_id)
        if task is None:
            return _NOTHING
        return _State(task.status, task.attempt, task.nonce, task.worker, task.payload)

    def _note_end_of_damaged(self, verb: str, item: Any, answer: Any) -> None:
        if verb == "finish" and answer and item.status.final:
            self.ended.setdefault(item[0], End(item.status, item.payload, item.attempt, item.nonce, self._world.now))
            self.unfinished.discard(item[0])

    def _check_transition(self, verb: str, item: Any, was: _State, now: _State) -> None:
        if was.status is now.status or now.status in TRANSITIONS.get((was.status, verb), ()):
            return
        # After a return to an older state the store may hold an attempt that is older than the one that runs.
        if not (self._redis.lost_at and verb in ("renew", "finish") and not (was.status and was.status.final)):
            self._world.fail(f"{verb} of {item[0]} led from {was.status} to {now.status}")

    def _check_claim(self, worker: str, item: Any, *, was: _State, now: _State, reply: Any) -> None:
        task_id, certified = item.task_id, self._redis.data.deaths.certified
        if reply.verdict > 0:
            if was.status is not None and was.status.final:
                self._world.fail(f"{task_id} was claimed though it is {was.status}")
            if worker in certified:
                self._world.fail(f"{task_id} was granted to {worker}, which is certified dead")
            if self._owner.setdefault(item.nonce, task_id) != task_id:
                self._world.fail(f"the nonce of {task_id} is one of {self._owner[item.nonce]}, too")
            earlier = self._granted.get(task_id)
            if earlier is not None and earlier[0] >= reply.verdict and earlier != (reply.verdict, item.nonce):
                self._world.fail(f"attempt {reply.verdict} of {task_id} was granted twice")
            self._granted[task_id] = (reply.verdict, item.nonce)
        elif reply.verdict == WAIT and was.status is TaskStatus.IN_PROGRESS:
            held = now.status is TaskStatus.IN_PROGRESS and now.worker in certified
            if held and worker not in certified:
                self._world.fail(f"{worker} waits for {task_id}, whose holder {now.worker} is certified dead")
        if reply.verdict <= 0 and reply.verdict != SUSPECT:
            self._check_transition("claim", item, was, now)

    def _may_restore(self, item: Any) -> bool:
        """After a loss of data, an attempt that ran all the while may write itself again over older ones."""
        return bool(self._redis.lost_at) and item.attempt > self._granted.get(item.task_id, (0, ""))[0]

    def _check_renewal(self, item: Any, now: _State) -> None:
        if now.nonce != item.nonce:
            self._world.fail(f"a lease of {item.task_id} was renewed that another holds")
        held = item.attempt, item.nonce
        if self._granted.get(item.task_id, held) != held and not self._may_restore(item):
            self._world.fail(f"a lease of {item.task_id} was renewed by attempt {item.attempt}, which had lost it")
        self._granted[item.task_id] = held

    def _check_finish(self, item: Any, was: _State, now: _State) -> None:
        task_id = item.task_id
        if (was.nonce, was.status) == (item.nonce, item.status) and was.attempt == item.attempt:
            return  # a repeat
        granted = self._granted.get(task_id)
        if granted is None:
            if not self._redis.lost_at:
                self._world.fail(f"{task_id} was finished though nobody had claimed it")
        elif granted != (item.attempt, item.nonce) and not self._may_restore(item):
            self._world.fail(
                f"{task_id} was finished by attempt {item.attempt} ({item.nonce}), but the lease is of "
                f"attempt {granted[0]} ({granted[1]})"
            )
        if item.status.final:
            end = End(item.status, item.payload, item.attempt, item.nonce, self._world.now)
            first = self.ended.setdefault(task_id, end)
            self.unfinished.discard(task_id)
            if first is not end and not any(at >= first.at for at in self._redis.lost_at):
                self._world.fail(f"{task_id} ended twice: {first.status}, then {end.status}")

    def damage(self, task_id: str) -> None:
        """From now on nobody can read what the store holds of it."""
        self.damaged.add(task_id)
        self._redis.data.tasks.damage(task_id)

    # The ledger

    def _ran(self, run: Run) -> None:
        if self._started.setdefault((run.task_id, run.nonce), run.attempt) != run.attempt:
            self._world.fail(f"{run.task_id} ran as attempt {run.attempt} under the nonce of another attempt")
        end = None if run.task_id in self.damaged else self.ended.get(run.task_id)
        excused = any(touch.meets(run, 0.0) for touch in self.touches)  # frozen between its claim and its start, say
        if end is not None and not excused and not any(at >= end.at for at in self._redis.lost_at):
            self._world.fail(f"{run.task_id} was started by {run.worker} after it had ended")

    # The broker

    def _appended(self, record: MemoryRecord) -> None:
        if record.topic.startswith(self._prefix):
            try:
                task_id = decode_envelope(record.value).id
            except EnvelopeError:
                task_id = f"undecodable {record.topic}/{record.partition}@{record.offset}"
            else:
                if task_id not in self.ended:
                    self.unfinished.add(task_id)
            place = (record.topic, record.partition), record.offset
            self._ids[place] = task_id
            self._copies[task_id].add(place)
        elif record.topic.endswith(".dead"):
            headers = dict(record.headers)
            partition = headers["yadtq-topic"].decode(), int(headers["yadtq-partition"])
            self.dead.add((partition, int(headers["yadtq-offset"])))

    def _committed(self, offsets: Mapping[Partition, int]) -> None:
        group = self._kafka.group("yadtq." + self._prefix.split(".")[1])
        for partition, offset in offsets.items():
            log = self._kafka.logs[partition]
            if offset > log.end:
                self._world.fail(f"{offset} of {partition[1]} was committed, the log ends at {log.end}")
            for each in range(max(group.committed.get(partition, 0), log.start), offset):
                self._settle((partition, each))

    def _reset(self, partition: Partition) -> None:
        self.dead = {place for place in self.dead if place[0] != partition}
        for place in [place for place in self._ids if place[0] == partition]:
            task_id = self._ids.pop(place)
            self._copies[task_id].discard(place)
            if not self._copies[task_id] and task_id not in self.ended:
                self.deleted.add(task_id)
                self.unfinished.discard(task_id)

    def _settle(self, place: tuple[Partition, int]) -> None:
        task_id = self._ids.pop(place, None)
        if task_id is None:
            return
        copies = self._copies[task_id]
        copies.discard(place)
        if task_id in self.ended or place in self.dead or copies:
            return
        self._world.fail(f"{place[1]} of partition {place[0][1]} was committed, but {task_id} has not ended")
