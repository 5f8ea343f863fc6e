"""The verbs on a task's state: what is asked, what is answered, and the protocol that Redis and memory both keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.wire.states import TaskStatus

__all__ = [
    "CHANNELS_MOST",
    "DAMAGED",
    "ENDED",
    "FOREIGN",
    "INLINE_BYTES",
    "OUTSIDE_DEATHS",
    "SUSPECT",
    "SUSPECT_FROM",
    "WAIT",
    "WAIT_TTL_S",
    "Claim",
    "ClaimReply",
    "Finish",
    "Found",
    "Lease",
    "Snapshot",
    "Tasks",
    "Unreadable",
]

# Verdicts of a claim that is not granted; a granted one is the attempt, counted from 1.
ENDED = 0  # the task is in a final state; the record is done
WAIT = -1  # leased by another or not due yet; `wait_ms` says when to ask again
SUSPECT = -2  # it has crashed workers before: claim it again when quarantine has a place for it
DAMAGED = (
    -3
)  # its state can't be read, so nobody knows whether it has ended: held as attempt 0, to be dead-lettered, FAILED

FOREIGN = -4  # its id belongs to another queue or task, whose state is none of this record's business

#: Results up to this size lie in the task's hash, larger ones under a key of their own.
INLINE_BYTES = 64
#: A task is a suspect once this many of its leases ended with their worker: it runs in quarantine until it has ended or
#: was shown to be the cause (D22).
SUSPECT_FROM = 1
#: This many deaths of workers that were ended from outside count as one crash of the tasks that ran there (claim.lua).
OUTSIDE_DEATHS = 3
#: A waiter may ask for a task before anyone has registered it (a foreign producer); it asks again long before this.
WAIT_TTL_S = 120
#: Clients that may wait for one task and be notified by push. One more replaces the one that was registered first,
#: which then learns of the end by its re-check.
CHANNELS_MOST = 64


class Claim(NamedTuple):
    """nonce: random, new for each claim, repeated only when the same claim is sent again. The fencing token.

    home: of the record (`wire.ids.home_of`). The first one under an id counts; the claim of another is FOREIGN. Empty: not
    compared.
    """

    task_id: str
    nonce: str
    home: str = ""


class ClaimReply(NamedTuple):
    """verdict: the number of the attempt (> 0) if granted, else ENDED, WAIT, SUSPECT, DAMAGED or FOREIGN.

    crashes: leases of this task that ended without a finish; those whose worker was ended from outside count a third.
    failures: attempts that failed. wait_ms: for WAIT.
    """

    verdict: int
    crashes: int = 0
    failures: int = 0
    wait_ms: int = 0


class Lease(NamedTuple):
    """A lease to renew or release. restorable: confirmed recently, so it may be written again if Redis lost its data.

    home: written with it.
    """

    task_id: str
    nonce: str
    attempt: int
    restorable: bool
    home: str = ""


class Finish(NamedTuple):
    """How an attempt ended. payload: result or error as JSON. due_ms: for RETRYING, until the next attempt."""

    task_id: str
    nonce: str
    attempt: int
    status: TaskStatus
    payload: bytes = b""
    due_ms: int = 0
    restorable: bool = False
    home: str = ""


class Snapshot(NamedTuple):
    """What Redis knows of a task. payload is set only in a final state, or as the last error of RETRYING."""

    status: TaskStatus
    attempt: int = 0
    payload: bytes = b""


class Unreadable(NamedTuple):
    """What Redis holds of a task can't be read. problem: the reason, for messages. status: known if only the payload is
    damaged.
    """

    problem: str
    status: TaskStatus | None = None


Found: TypeAlias = "Snapshot | Unreadable | None"
"""None: nothing is known of the task."""


class Tasks(Protocol):
    """All raise `StoreUnavailable` after a deadline; all may be repeated.

    Damaged data of one task never fails a call: it is the verdict DAMAGED of a claim, `Unreadable` for a read, and
    "fenced" for a renewal, release or finish. A restorable attempt overwrites it.
    """

    async def register(self, task_ids: Sequence[str], data_set: str = "", homes: Sequence[str] = ()) -> bool:
        """QUEUED for every id that is not known yet. Call it only for tasks that Kafka holds.

        data_set: the name of the one in which they were submitted; on another one nothing is written, and the answer is
        False, since they may have ended in what was lost. Empty: Kafka holds them as unfinished now. homes: one for each, or
        none: then the first claim says where an id belongs.
        """
        ...

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        """Take leases. suspects: how many tasks that have crashed workers before may be granted."""
        ...

    async def renew(self, worker: str, leases: Sequence[Lease]) -> list[bool]:
        """Extend leases; False: lost, the attempt must stop."""
        ...

    async def release(self, leases: Sequence[Lease]) -> list[bool]:
        """Give leases back: QUEUED again, claimable at once; not a failure of the task."""
        ...

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        """Store outcomes; False: fenced, another attempt owns the task. A repeat of an accepted finish is True."""
        ...

    async def snapshots(self, task_ids: Sequence[str]) -> list[Found]: ...

    async def wait(self, channel: str, task_ids: Sequence[str]) -> list[Found]:
        """`snapshots`, and in the same step registers `channel` as a waiter of those that are not final."""
        ...

    async def unwait(self, channel: str, task_ids: Sequence[str]) -> None:
        """No waiter of `channel` waits for these any more."""
        ...

    async def fetch_large(self, task_ids: Sequence[str], found: Sequence[Found]) -> list[Found]:
        """`found`, with large payloads read from their own keys. If such a payload has expired, a final state becomes
        None.
        """
        ...
