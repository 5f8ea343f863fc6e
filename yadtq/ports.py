"""The seam between the core and its two servers. Internal: not a plug-in interface, and it may change in any release.

It exists so that the core is tested against in-memory doubles as well as real servers; one contract suite runs on both.
Batches everywhere: a call carries all that one event-loop tick brought together, and answers in the same order (D9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from yadtq.states import TaskStatus

__all__ = [
    "FINAL",
    "SUSPECT",
    "WAIT",
    "Claim",
    "ClaimReply",
    "ConsumedRecord",
    "Finish",
    "Lease",
    "OutRecord",
    "Partition",
    "Producer",
    "Snapshot",
    "Store",
    "TaskConsumer",
]

Partition = tuple[str, int]
"""(topic, partition)."""

# Verdicts of a claim that is not granted; a granted one is the attempt, counted from 1.
FINAL = 0  # the task has ended; the record is done
WAIT = -1  # leased by another or not due yet; `wait_ms` says when to ask again
SUSPECT = -2  # it has crashed workers before: claim it again when no other suspect runs here


class Claim(NamedTuple):
    """nonce: random, new for each claim, repeated only when the same claim is sent again. The fencing token."""

    task_id: str
    nonce: str


class ClaimReply(NamedTuple):
    """verdict: the attempt (> 0), or FINAL, WAIT, SUSPECT.

    crashes: leases of this task that ended without a finish. failures: attempts that failed. wait_ms: for WAIT.
    """

    verdict: int
    crashes: int = 0
    failures: int = 0
    wait_ms: int = 0


class Lease(NamedTuple):
    """A lease to renew or release. restorable: lately confirmed, so it may be written anew if Redis lost its data."""

    task_id: str
    nonce: str
    attempt: int
    restorable: bool


class Finish(NamedTuple):
    """How an attempt ended. payload: result or error as JSON. due_ms: for RETRYING, until the next attempt."""

    task_id: str
    nonce: str
    attempt: int
    status: TaskStatus
    payload: bytes = b""
    due_ms: int = 0
    restorable: bool = False


class Snapshot(NamedTuple):
    """What Redis knows of a task. payload is only there in a final state, or as the last error of RETRYING."""

    status: TaskStatus
    attempt: int = 0
    payload: bytes = b""


class Store(Protocol):
    """The verbs on a task's state. All raise `StoreUnavailable` after a deadline; all may be repeated."""

    async def register(self, task_ids: Sequence[str]) -> None:
        """QUEUED for every id that is not known yet."""
        ...

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        """Take leases. suspects: how many tasks that have crashed workers before may be granted."""
        ...

    async def renew(self, worker: str, leases: Sequence[Lease]) -> list[bool]:
        """Extend leases; False: lost, the attempt must not go on."""
        ...

    async def release(self, leases: Sequence[Lease]) -> list[bool]:
        """Give leases back: QUEUED again, claimable at once; not a failure of the task."""
        ...

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        """Store outcomes; False: fenced, another attempt owns the task. A repeat of an accepted finish is True."""
        ...

    async def snapshots(self, task_ids: Sequence[str]) -> list[Snapshot | None]:
        """None: nothing is known of the id."""
        ...

    async def wait(self, channel: str, task_ids: Sequence[str]) -> list[Snapshot | None]:
        """`snapshots`, and in the same step registers `channel` as a waiter of those that are not final."""
        ...

    async def bury(self, worker: str) -> None:
        """A death certificate: the leases of this worker process are void from now on."""
        ...

    async def incarnation(self) -> str:
        """A name of Redis's data set: another one means that everything in it was lost."""
        ...


class OutRecord(NamedTuple):
    """A record to append. partition None: any."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Producer(Protocol):
    """Appends with acks=all."""

    async def append(self, records: Sequence[OutRecord]) -> None:
        """Returns when all are acknowledged; raises `BrokerUnavailable` after a deadline (some may be appended)."""
        ...


class ConsumedRecord(Protocol):
    """What aiokafka hands out, and all that we read of it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class TaskConsumer(Protocol):
    """A member of the app's consumer group."""

    async def start(
        self,
        on_assigned: Callable[[Collection[Partition]], None],
        watermarks: Callable[[], Mapping[Partition, int]],
    ) -> None:
        """Join. Neither callback may wait.

        on_assigned: gets the whole new assignment after every rebalance, before any record of it is handed out.
        watermarks: what to commit at the last moment before partitions are given up.
        """
        ...

    async def poll(
        self, partitions: Collection[Partition], max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        """Records of these partitions; empty after timeout_s. Never to be cancelled."""
        ...

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """False: not committed (a rebalance is under way, or Kafka is away); try again later."""
        ...

    async def position(self, partition: Partition) -> int | None:
        """The offset that will be handed out next; None: not known (any more)."""
        ...

    def lag(self, partition: Partition, offset: int) -> int:
        """Records from `offset` to the partition's end, as far as known."""
        ...

    async def stop(self) -> None:
        """Leave in bounded time."""
        ...
