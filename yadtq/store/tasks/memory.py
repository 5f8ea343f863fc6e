"""The state of tasks in memory: the same answers as from Redis, to the millisecond.

tests/contract/ drives both, also in lock-step. What is one Lua script there is one step without an `await` here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from yadtq.store.tasks.verbs import (
    CHANNELS_MOST,
    DAMAGED,
    ENDED,
    FOREIGN,
    INLINE_BYTES,
    OUTSIDE_DEATHS,
    SUSPECT,
    SUSPECT_FROM,
    WAIT,
    WAIT_TTL_S,
    ClaimReply,
    Found,
    Snapshot,
    Unreadable,
)
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.settings import Settings
    from yadtq.store.deaths.memory import MemoryDeaths
    from yadtq.store.memory_server import MemoryServer
    from yadtq.store.tasks.verbs import Claim, Finish, Lease

__all__ = ["ENDS", "MemoryTasks"]

#: What the channels of waiters begin with.
ENDS = "c:"

_QUEUED, _RUNNING, _RETRYING = TaskStatus.QUEUED, TaskStatus.IN_PROGRESS, TaskStatus.RETRYING


@dataclass(slots=True)
class _Task:
    """Fields of a task's hash (store/keys.py). status None: only waiters are known. due_ms: end of lease or delay.

    damaged: it can't be read. held: it could not be read, and stays at attempt 0 until a worker has ended it FAILED.
    """

    expires_ms: int = 0
    status: TaskStatus | None = None
    attempt: int = 0
    nonce: str = ""
    due_ms: int = 0
    worker: str = ""
    crashes: int = 0
    outside: int = 0
    failures: int = 0
    payload: bytes = b""
    payload_until_ms: int = 0
    channels: list[str] = field(default_factory=list)
    mark: str = ""
    home: str = ""
    damaged: bool = False
    held: bool = False

    @property
    def final(self) -> bool:
        return self.status is not None and self.status.final

    def held_by(self, nonce: str) -> bool:
        return self.status is _RUNNING and self.nonce == nonce

    def void(self) -> None:
        """The lease is over, and the task queued again."""
        self.status, self.due_ms, self.worker = _QUEUED, 0, ""


class MemoryTasks:
    """`verbs.Tasks` in memory."""

    def __init__(self, server: MemoryServer, deaths: MemoryDeaths, settings: Settings) -> None:
        self._server = server
        self._deaths = deaths
        self._settings = settings
        self._tasks: dict[str, _Task] = {}

    def clear(self) -> None:
        self._tasks = {}

    def save(self) -> dict[str, _Task]:
        return {task_id: replace(task, channels=list(task.channels)) for task_id, task in self._tasks.items()}

    def load(self, saved: dict[str, _Task]) -> None:
        self._tasks = saved
        self._tasks = self.save()  # it may be loaded again

    def damage(self, task_id: str) -> None:
        """From now on what is stored of the task can't be read, as a key of another type in Redis."""
        self._tasks[task_id] = _Task(expires_ms=self._now() + self._settings.queued_ttl_s * 1000, damaged=True)

    def dump(self) -> dict[str, dict[str, str]]:
        """All tasks, in the letters of store/keys.py; without lease ends and payloads."""
        found = {}
        for task_id in list(self._tasks):
            task = self._find(task_id)
            if task is not None:
                letters = {
                    "s": task.status.code if task.status else "",
                    "a": "0" if task.held else str(task.attempt or ""),
                    "n": task.nonce,
                    "w": task.worker,
                    "k": str(task.crashes or ""),
                    "o": str(task.outside or ""),
                    "f": str(task.failures or ""),
                    "h": task.home,
                    "c": " ".join(task.channels),
                }
                found[task_id] = {letter: value for letter, value in letters.items() if value}
                if task.damaged:
                    found[task_id] = {"damaged": "yes"}
        return found

    async def register(self, task_ids: Sequence[str], data_set: str = "", homes: Sequence[str] = ()) -> bool:
        await self._server.reach()
        if data_set not in ("", self._server.data_set):
            return False
        for task_id, home in zip(task_ids, homes or [""] * len(task_ids), strict=True):
            task = self._find(task_id) or self._create(task_id)
            if task.damaged:
                continue
            if task.status is None:
                task.status, task.home = _QUEUED, home
                self._expire(task, self._settings.queued_ttl_s)
            if self._server.mark:
                task.mark = self._server.mark
        return True

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        await self._server.reach()
        if worker in self._deaths.certified:  # messages that a process sent before it was killed
            return [ClaimReply(WAIT, wait_ms=self._lease_ms)] * len(claims)
        replies = [self._claim(worker, claim) for claim in claims]
        # Suspects come last: a repeat of this call must count those that it was granted the first time.
        left = suspects - sum(reply.verdict > 0 and reply.crashes >= SUSPECT_FROM for reply in replies)
        for at, (claim, reply) in enumerate(zip(claims, replies, strict=True)):
            if reply.verdict == SUSPECT:
                task = self._tasks[claim.task_id]
                if task.status is _RUNNING:  # the same task twice in one batch
                    replies[at] = reply._replace(verdict=WAIT, wait_ms=task.due_ms - self._now())
                elif left > 0:
                    left -= 1
                    replies[at] = self._grant(worker, task, claim)
        return replies

    def _claim(self, worker: str, claim: Claim) -> ClaimReply:
        now = self._now()
        task = self._find(claim.task_id) or self._create(claim.task_id)
        if claim.home and task.home and task.home != claim.home:
            return ClaimReply(FOREIGN, task.crashes, task.failures)
        if task.final:
            return ClaimReply(ENDED, task.crashes, task.failures)
        if task.damaged or task.held:
            return self._hold_damaged(worker, claim, task)
        if task.held_by(claim.nonce):
            return ClaimReply(task.attempt, task.crashes, task.failures)
        wait_ms = max(0, task.due_ms - now)
        if task.status is _RUNNING:
            if task.worker in self._deaths.certified:
                wait_ms = 0
            if not wait_ms:
                outside = task.worker in self._deaths.outside
                task.void()
                task.nonce = ""
                task.outside += outside
                if not outside or task.outside == OUTSIDE_DEATHS:
                    task.crashes += 1
                    task.outside = 0 if outside else task.outside
        elif task.status is not None and task.nonce == claim.nonce:
            wait_ms = max(wait_ms, self._lease_ms)  # the late echo of a claim whose attempt has ended
        if wait_ms:
            return ClaimReply(WAIT, task.crashes, task.failures, wait_ms)
        if task.crashes >= SUSPECT_FROM:
            return ClaimReply(SUSPECT, task.crashes, task.failures)
        if task.status is None:
            self._expire(task, self._settings.queued_ttl_s)
        return self._grant(worker, task, claim)

    def _hold_damaged(self, worker: str, claim: Claim, task: _Task) -> ClaimReply:
        if task.damaged:
            task = self._create(claim.task_id)
        elif task.status is _RUNNING:
            if task.nonce == claim.nonce:
                return ClaimReply(DAMAGED)
            if (wait_ms := task.due_ms - self._now()) > 0 and task.worker not in self._deaths.certified:
                return ClaimReply(WAIT, wait_ms=wait_ms)
        self._grant(worker, task, claim)
        task.attempt, task.held = 0, True
        self._expire(task, self._settings.queued_ttl_s)
        return ClaimReply(DAMAGED)

    def _grant(self, worker: str, task: _Task, claim: Claim) -> ClaimReply:
        task.status, task.worker, task.nonce = _RUNNING, worker, claim.nonce
        task.home = task.home or claim.home
        task.attempt += 1
        task.due_ms = self._now() + self._lease_ms
        return ClaimReply(task.attempt, task.crashes, task.failures)

    async def renew(self, worker: str, leases: Sequence[Lease]) -> list[bool]:
        await self._server.reach()
        return [self._renew(worker, lease) for lease in leases]

    def _renew(self, worker: str, lease: Lease) -> bool:
        task = self._find(lease.task_id)
        if lease.restorable and self._lost(task, lease.attempt):
            task = self._overwritable(task, lease)
            task.status, task.attempt, task.nonce, task.worker = _RUNNING, lease.attempt, lease.nonce, worker
        if task is None or not task.held_by(lease.nonce):
            return False
        task.due_ms = self._now() + self._lease_ms
        self._expire(task, self._settings.queued_ttl_s)
        return True

    def _lost(self, task: _Task | None, attempt: int) -> bool:
        """Whether a running attempt may write itself again: the task is unknown, or only older attempts are known of
        it.
        """
        if task is None or task.damaged or task.status is None:
            return True
        if task.final or task.attempt >= attempt:
            return False
        return task.status is not _RUNNING or task.due_ms <= self._now()

    def _overwritable(self, task: _Task | None, owner: Lease | Finish) -> _Task:
        if task is None or task.damaged:
            task = self._create(owner.task_id)
        task.held = not owner.attempt
        task.home = owner.home or task.home
        return task

    async def release(self, leases: Sequence[Lease]) -> list[bool]:
        await self._server.reach()
        return [self._release(lease) for lease in leases]

    def _release(self, lease: Lease) -> bool:
        task = self._find(lease.task_id)
        if task is None or task.status not in (_RUNNING, _QUEUED) or task.nonce != lease.nonce:
            return False
        task.void()
        return True

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        await self._server.reach()
        news: dict[str, list[tuple[str, Snapshot]]] = {}
        accepted = [self._finish(finish, news) for finish in finishes]
        for channel, ended in news.items():
            self._server.publish(ENDS + channel, ended)
        return accepted

    def _finish(self, finish: Finish, news: dict[str, list[tuple[str, Snapshot]]]) -> bool:
        task = self._find(finish.task_id)
        if finish.restorable and self._lost(task, finish.attempt):
            task = self._overwritable(task, finish)
        elif task is None or not (task.held_by(finish.nonce) and task.attempt == finish.attempt):
            repeated = task is not None and (task.nonce, task.status) == (finish.nonce, finish.status)
            if repeated and task is not None and min(len(task.payload), len(finish.payload)) > INLINE_BYTES:
                self._keep(task, finish)
            return repeated
        task.status, task.attempt, task.nonce = finish.status, finish.attempt, finish.nonce
        task.due_ms = 0
        self._keep(task, finish)
        if finish.status is _RETRYING:
            task.worker = ""
            task.failures += 1
            task.due_ms = self._now() + finish.due_ms
            self._expire(task, self._settings.queued_ttl_s + finish.due_ms // 1000)
            return True
        self._expire(task, self._settings.result_ttl_s)
        for channel in task.channels:
            news.setdefault(channel, []).append(
                (finish.task_id, Snapshot(finish.status, finish.attempt, finish.payload))
            )
        task.channels = []
        return True

    def _keep(self, task: _Task, finish: Finish) -> None:
        task.payload = finish.payload
        task.payload_until_ms = self._now() + (self._settings.result_ttl_s + finish.due_ms // 1000) * 1000

    async def snapshots(self, task_ids: Sequence[str]) -> list[Found]:
        await self._server.reach()
        return [self._snapshot(task_id) for task_id in task_ids]

    async def wait(self, channel: str, task_ids: Sequence[str]) -> list[Found]:
        await self._server.reach()
        for task_id in task_ids:
            task = self._find(task_id) or self._create(task_id)
            if task.damaged:
                continue
            if not task.final and channel not in task.channels:
                task.channels = [*task.channels[-(CHANNELS_MOST - 1) :], channel]
            if task.status is None:
                self._expire(task, WAIT_TTL_S)
        return [self._snapshot(task_id) for task_id in task_ids]

    async def unwait(self, channel: str, task_ids: Sequence[str]) -> None:
        await self._server.reach()
        for task_id in task_ids:
            task = self._find(task_id)
            if task is not None:
                task.channels = [other for other in task.channels if other != channel]
                if task.status is None and not task.channels and not task.damaged:
                    del self._tasks[task_id]

    def _snapshot(self, task_id: str) -> Found:
        task = self._find(task_id)
        if task is not None and task.damaged:
            return Unreadable("its state is none that this version knows")
        if task is None or task.status is None or self._is_memory(task):
            return None
        kept = len(task.payload) <= INLINE_BYTES or self._now() <= task.payload_until_ms
        shown = task.final or (task.status is _RETRYING and kept)
        return Snapshot(task.status, task.attempt, task.payload if shown else b"")

    def _is_memory(self, task: _Task) -> bool:
        """From before the server went back in time, and not confirmed since: it may have ended in what was lost."""
        if not self._server.mark or task.mark == self._server.mark or task.final:
            return False
        return task.status is not _RUNNING or task.due_ms <= self._now()

    async def fetch_large(self, task_ids: Sequence[str], found: Sequence[Found]) -> list[Found]:
        return list(found)  # no payload is ever cut here

    @property
    def _lease_ms(self) -> int:
        return int(self._settings.lease_s * 1000)

    def _now(self) -> int:
        return round(self._server.clock.time() * 1000)

    def _find(self, task_id: str) -> _Task | None:
        task = self._tasks.get(task_id)
        if task is not None and self._now() > task.expires_ms:
            del self._tasks[task_id]
            return None
        return task

    def _create(self, task_id: str) -> _Task:
        task = self._tasks[task_id] = _Task(expires_ms=self._now())
        return task

    def _expire(self, task: _Task, ttl_s: int) -> None:
        task.expires_ms = self._now() + ttl_s * 1000
