"""Bugs put in on purpose: the simulation is only worth something if it finds them.

Each is put in by a patch of the test, never by a switch in the product, and must be found by the seeds that a swarm draws,
within `MOST` of them.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from yadtq.client.submitter import Submitter
from yadtq.delivery.claimer import Claimer
from yadtq.delivery.completer import Completer
from yadtq.delivery.gates.unknown import UnknownTasks
from yadtq.delivery.handover import Handover
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.rebuilder import Rebuilder
from yadtq.delivery.tracker import PartitionTracker
from yadtq.delivery.waiting import WaitingRoom
from yadtq.execution.limits import Limits
from yadtq.execution.slots import Slots
from yadtq.runtime.seams import Partition
from yadtq.store.deaths.memory import MemoryDeaths
from yadtq.store.tasks.memory import MemoryTasks
from yadtq.testing.sim.faults import KINDS
from yadtq.testing.sim.swarm import run_seed, side_by_side
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 200


def find(plant: Callable[[pytest.MonkeyPatch], None], words: str, faults: tuple[str, ...], **how: Any) -> None:
    """Fails unless one of the seeds tells of the bug in these words."""
    kinds = tuple(kind for kind in KINDS if kind.name in faults) or None
    for seed in range(1, MOST + 1):
        problems = run_seed(seed, kinds=kinds, **how).problems
        if found := [problem for problem in problems if words in problem]:
            print(f"{plant.__name__}: seed {seed}: {found[0]}")
            return
    pytest.fail(f"{plant.__name__} was not found within {MOST} seeds")


def fence_left_out(patch: pytest.MonkeyPatch) -> None:
    """A finish is accepted from whoever sends it."""
    real = MemoryTasks._finish

    def finish(self: MemoryTasks, finish: Any, news: Any) -> bool:
        task = self._tasks.get(finish.task_id)
        if task is not None and task.status is TaskStatus.IN_PROGRESS:
            task.nonce, task.attempt = finish.nonce, finish.attempt
        return real(self, finish, news)

    patch.setattr(MemoryTasks, "_finish", finish)


def commit_past_an_unfinished_offset(patch: pytest.MonkeyPatch) -> None:
    """The watermark is the last offset received."""
    patch.setattr(PartitionTracker, "watermark", property(lambda self: self.last_seen + 1))


def certificate_ignored(patch: pytest.MonkeyPatch) -> None:
    """A claim does not ask whether the holder of a lease is dead."""
    real = MemoryTasks.__init__

    def make(self: MemoryTasks, server: Any, deaths: MemoryDeaths, settings: Any) -> None:
        real(self, server, MemoryDeaths(server), settings)

    patch.setattr(MemoryTasks, "__init__", make)


def straggler_let_go_early(patch: pytest.MonkeyPatch) -> None:
    """The offset of a straggler is released before Kafka has its copy."""
    real = Outbox.put

    def put(self: Outbox, records: Any, then: Any, *more: Any) -> None:
        if records and ".tasks." in records[0].topic:
            then()
            real(self, records, lambda *answers: None, *more)
        else:
            real(self, records, then, *more)

    patch.setattr(Outbox, "put", put)


def double_park(patch: pytest.MonkeyPatch) -> None:
    """What is parked for long is put into the heap twice."""
    real = WaitingRoom.park

    def park(self: WaitingRoom, delivery: Any, seconds: float) -> None:
        real(self, delivery, seconds)
        if seconds > 0.2:
            real(self, delivery, seconds)

    patch.setattr(WaitingRoom, "park", park)


def slot_not_given_back(patch: pytest.MonkeyPatch) -> None:
    """A claim that is refused keeps its slot: reserved for nobody."""
    patch.setattr(Slots, "give_back", lambda self, count: None)


def lost_wake_up(patch: pytest.MonkeyPatch) -> None:
    """Nobody wakes the claimer when something parked is due."""
    patch.setattr(WaitingRoom, "next_due", lambda self: None)


def nonce_used_twice(patch: pytest.MonkeyPatch) -> None:
    """All claims of a process carry one token."""
    real = Claimer.__init__

    def make(self: Claimer, **given: Any) -> None:
        real(self, **given)
        self._serial = repeat(1)  # type: ignore[assignment]

    patch.setattr(Claimer, "__init__", make)


def nonce_kept_for_the_next_attempt(patch: pytest.MonkeyPatch) -> None:
    """An attempt that is tried again claims under the token of the one before."""
    real = Completer._again

    def again(self: Completer, outcome: Any, seconds: float) -> None:
        real(self, outcome, seconds)
        outcome.attempt.origin.nonce = outcome.attempt.nonce

    patch.setattr(Completer, "_again", again)


def renewal_after_the_finish(patch: pytest.MonkeyPatch) -> None:
    """A renewal that comes late takes the task back out of its final state."""
    real = MemoryTasks._renew

    def renew(self: MemoryTasks, worker: str, lease: Any) -> bool:
        task = self._tasks.get(lease.task_id)
        if task is not None and task.nonce == lease.nonce:
            task.status = TaskStatus.IN_PROGRESS
        return real(self, worker, lease)

    patch.setattr(MemoryTasks, "_renew", renew)


def rebuild_forgets_a_partition(patch: pytest.MonkeyPatch) -> None:
    """After a loss of data, the tasks of one partition stay unknown."""
    real = Rebuilder._rebuild

    async def rebuild(self: Rebuilder, partition: Partition) -> int:
        return 0 if partition[1] == 0 else await real(self, partition)

    patch.setattr(Rebuilder, "_rebuild", rebuild)


def stored_before_it_is_answered(patch: pytest.MonkeyPatch) -> None:
    """An outcome counts as stored when it is sent: the offset goes first, Redis second."""
    real = Completer._finish

    async def finish(self: Completer, ended: Any) -> Any:
        for outcome in ended:
            outcome.attempt.origin.source.release(outcome.attempt.origin)
        return await real(self, ended)

    patch.setattr(Completer, "_finish", finish)


def lost_partition_still_committed(patch: pytest.MonkeyPatch) -> None:
    """What a lost partition's tracker was waiting for is dropped, and counted as finished."""
    real = PartitionTracker.reassigned

    def reassigned(self: PartitionTracker[Any]) -> None:
        self._in_flight.clear()
        real(self)

    patch.setattr(PartitionTracker, "reassigned", reassigned)


def outbox_forgets_on_an_outage(patch: pytest.MonkeyPatch) -> None:
    """An append that fails is taken for one that was acknowledged."""
    real = Outbox._append

    async def append(self: Outbox) -> bool:
        if not await real(self):
            self._entries.popleft().then()
        return True

    patch.setattr(Outbox, "_append", append)


def submit_believed_too_early(patch: pytest.MonkeyPatch) -> None:
    """A submit returns though Kafka has not acknowledged it."""
    real = Submitter._send

    async def send(self: Submitter, submissions: Any) -> Any:
        return [None for _ in await real(self, submissions)]

    patch.setattr(Submitter, "_send", send)


def limits_too_short(patch: pytest.MonkeyPatch) -> None:
    """Time limits run for half as long as they should."""
    real = Limits.start
    patch.setattr(Limits, "start", lambda self, attempt, seconds: real(self, attempt, seconds / 2))


#: Records that are held for long enough to be moved.
_STRAGGLERS = {"concurrency": 20, "straggler_age_s": 1.0, "unknown_task_window_s": 0.5}
#: With what the judge must say of each, and the faults that show it soonest (none named: those that each seed draws).
PLANTS = (
    (fence_left_out, "but the lease is of", ("freeze", "cut-redis")),
    (commit_past_an_unfinished_offset, "was committed, but", ()),
    (certificate_ignored, "certified dead", ()),
    (straggler_let_go_early, "was committed, but", ("leader-gone", "kafka-down")),
    (double_park, "parked to parked", ()),
    (slot_not_given_back, "slots:", ()),
    (lost_wake_up, "not everything has ended", ()),
    (nonce_used_twice, "the nonce of", ()),
    (nonce_kept_for_the_next_attempt, "not everything has ended", ()),
    (renewal_after_the_finish, "led from SUCCESS to IN_PROGRESS", ()),
    (rebuild_forgets_a_partition, "Redis knows nothing of", ("redis-loss",)),
    (stored_before_it_is_answered, "was committed, but", ()),
    (lost_partition_still_committed, "was committed, but", ()),
    (outbox_forgets_on_an_outage, "was committed, but", ("kafka-down", "foreign-records")),
    (submit_believed_too_early, "was accepted and has not ended", ("kafka-down", "kafka-weather")),
    (limits_too_short, "TaskTimeout", ()),
)


@pytest.mark.parametrize(("plant", "words", "faults"), PLANTS, ids=[plant.__name__ for plant, *_ in PLANTS])
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    words: str,
    faults: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    changes = {"options": _STRAGGLERS} if plant is straggler_let_go_early else None
    find(plant, words, faults, changes=changes)


def old_worker_fails_what_it_does_not_know(patch: pytest.MonkeyPatch) -> None:
    """An unknown name is a dead letter at once."""
    patch.setattr(UnknownTasks, "ask", lambda self, delivery, now: None)


def old_worker_fails_parameters_it_does_not_know(patch: pytest.MonkeyPatch) -> None:
    """Arguments that don't fit are wrong, whoever submitted them."""
    patch.setattr(UnknownTasks, "keeps", lambda self, delivery, now: False)


def record_let_go_before_it_was_sent_on(patch: pytest.MonkeyPatch) -> None:
    """The offset is released before Kafka has the copy."""
    real = Handover.__call__

    def send(self: Handover, delivery: Any, to: Any) -> None:
        delivery.source.release(delivery)
        real(self, delivery, to)

    patch.setattr(Handover, "__call__", send)


@pytest.mark.parametrize(
    ("plant", "words", "faults"),
    [
        (old_worker_fails_what_it_does_not_know, "(added)", ()),
        (old_worker_fails_parameters_it_does_not_know, "(grown)", ()),
        (record_let_go_before_it_was_sent_on, "was committed, but", ("leader-gone", "kafka-down")),
    ],
    ids=["name", "parameter", "let-go"],
)
def test_a_bug_of_deploys_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    words: str,
    faults: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    find(plant, words, faults, change=side_by_side)
