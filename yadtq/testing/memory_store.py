"""The state of tasks in memory: `ports.Store` without Redis, on a clock that the test holds.

Says the same to every call as `RedisStore`, to the millisecond: tests/contract/ drives both, also in lock-step. What is
one Lua script there is one step without an `await` here.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yadtq.errors import StoreUnavailable
from yadtq.ports import FINAL, SUSPECT, WAIT, ClaimReply, Snapshot
from yadtq.settings import Settings
from yadtq.states import TaskStatus
from yadtq.store.tasks import INLINE_BYTES, SUSPECT_FROM, WAIT_TTL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yadtq.clock import Clock
    from yadtq.ports import Claim, Finish, Lease

    News = Callable[[list[tuple[str, Snapshot]]], None]

__all__ = ["MemoryStore"]

_QUEUED, _RUNNING, _RETRYING = TaskStatus.QUEUED, TaskStatus.IN_PROGRESS, TaskStatus.RETRYING
_CERTIFICATE_TTL_MS = 3_600_000


@dataclass(slots=True)
class _Task:
    """Fields of a task's hash (store/keys.py). status None: only waiters are known. due_ms: end of lease or delay."""

    expires_ms: int = 0
    status: TaskStatus | None = None
    attempt: int = 0
    nonce: str = ""
    due_ms: int = 0
    worker: str = ""
    crashes: int = 0
    failures: int = 0
    payload: bytes = b""
    payload_until_ms: int = 0
    channels: list[str] = field(default_factory=list)

    @property
    def final(self) -> bool:
        return self.status is not None and self.status.final

    def held_by(self, nonce: str) -> bool:
        return self.status is _RUNNING and self.nonce == nonce

    def void(self) -> None:
        """The lease is over, and the task queued again."""
        self.status, self.due_ms, self.worker = _QUEUED, 0, ""


class MemoryStore:
    """`ports.Store`. down: while True every verb raises `StoreUnavailable`."""

    def __init__(self, clock: Clock, settings: Settings | None = None) -> None:
        self.down = False
        self._clock = clock
        self._settings = settings or Settings.load()
        self._tasks: dict[str, _Task] = {}
        self._dead: dict[str, int] = {}
        self._incarnation = ""
        self._news: dict[str, list[News]] = {}
        self._deaths: list[Callable[[str], None]] = []

    # What tests and notifiers do beside the verbs

    def on_news(self, channel: str, callback: News) -> None:
        """Call back with the tasks that end and have `channel` among their waiters."""
        self._news.setdefault(channel, []).append(callback)

    def on_death(self, callback: Callable[[str], None]) -> None:
        """Call back with each worker that is buried."""
        self._deaths.append(callback)

    def flush(self) -> None:
        """Lose all data, as a server without persistence does in a restart. Subscriptions stay."""
        self._tasks.clear()
        self._dead.clear()
        self._incarnation = ""

    def dump(self) -> dict[str, dict[str, str]]:
        """All tasks, in the letters of store/keys.py; without lease ends and payloads."""
        found = {}
        for task_id in list(self._tasks):
            task = self._find(task_id)
            if task is not None:
                letters = {
                    "s": task.status.code if task.status else "",
                    "a": str(task.attempt or ""),
                    "n": task.nonce,
                    "w": task.worker,
                    "k": str(task.crashes or ""),
                    "f": str(task.failures or ""),
                    "c": " ".join(task.channels),
                }
                found[task_id] = {letter: value for letter, value in letters.items() if value}
        return found

    # The verbs

    async def register(self, task_ids: Sequence[str]) -> None:
        await self._reach()
        for task_id in task_ids:
            task = self._find(task_id) or self._create(task_id)
            if task.status is None:
                task.status = _QUEUED
                self._expire(task, self._settings.queued_ttl_s)

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        await self._reach()
        if worker in self._dead:  # the last words of a killed process
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
                    replies[at] = self._grant(worker, task, claim.nonce)
        return replies

    def _claim(self, worker: str, claim: Claim) -> ClaimReply:
        now = self._now()
        task = self._find(claim.task_id) or self._create(claim.task_id)
        if task.final:
            return ClaimReply(FINAL, task.crashes, task.failures)
        if task.held_by(claim.nonce):
            return ClaimReply(task.attempt, task.crashes, task.failures)
        wait_ms = max(0, task.due_ms - now)
        if task.status is _RUNNING:
            if task.worker in self._dead:
                wait_ms = 0
            if not wait_ms:
                task.void()
                task.nonce = ""
                task.crashes += 1
        elif task.status is not None and task.nonce == claim.nonce:
            wait_ms = max(wait_ms, self._lease_ms)  # the late echo of a claim whose attempt has ended
        if wait_ms:
            return ClaimReply(WAIT, task.crashes, task.failures, wait_ms)
        if task.crashes >= SUSPECT_FROM:
            return ClaimReply(SUSPECT, task.crashes, task.failures)
        if task.status is None:
            self._expire(task, self._settings.queued_ttl_s)
        return self._grant(worker, task, claim.nonce)

    def _grant(self, worker: str, task: _Task, nonce: str) -> ClaimReply:
        task.status, task.worker, task.nonce = _RUNNING, worker, nonce
        task.attempt += 1
        task.due_ms = self._now() + self._lease_ms
        return ClaimReply(task.attempt, task.crashes, task.failures)

    async def renew(self, worker: str, leases: Sequence[Lease]) -> list[bool]:
        await self._reach()
        return [self._renew(worker, lease) for lease in leases]

    def _renew(self, worker: str, lease: Lease) -> bool:
        task = self._find(lease.task_id)
        if lease.restorable and self._lost(task):
            task = task or self._create(lease.task_id)
            task.status, task.attempt, task.nonce, task.worker = _RUNNING, lease.attempt, lease.nonce, worker
        if task is None or not task.held_by(lease.nonce):
            return False
        task.due_ms = self._now() + self._lease_ms
        self._expire(task, self._settings.queued_ttl_s)
        return True

    @staticmethod
    def _lost(task: _Task | None) -> bool:
        """Unknown, or registered again and not claimed since: a running attempt may write itself anew."""
        return task is None or task.status is None or (task.status is _QUEUED and not task.attempt)

    async def release(self, leases: Sequence[Lease]) -> list[bool]:
        await self._reach()
        return [self._release(lease) for lease in leases]

    def _release(self, lease: Lease) -> bool:
        task = self._find(lease.task_id)
        if task is None or task.status not in (_RUNNING, _QUEUED) or task.nonce != lease.nonce:
            return False
        task.void()
        return True

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        await self._reach()
        news: dict[str, list[tuple[str, Snapshot]]] = {}
        accepted = [self._finish(finish, news) for finish in finishes]
        for channel, ended in news.items():
            for callback in self._news.get(channel, ()):
                callback(ended)
        return accepted

    def _finish(self, finish: Finish, news: dict[str, list[tuple[str, Snapshot]]]) -> bool:
        task = self._find(finish.task_id)
        if finish.restorable and self._lost(task):
            task = task or self._create(finish.task_id)
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

    async def snapshots(self, task_ids: Sequence[str]) -> list[Snapshot | None]:
        await self._reach()
        return [self._snapshot(task_id) for task_id in task_ids]

    async def wait(self, channel: str, task_ids: Sequence[str]) -> list[Snapshot | None]:
        await self._reach()
        for task_id in task_ids:
            task = self._find(task_id) or self._create(task_id)
            if not task.final and channel not in task.channels:
                task.channels.append(channel)
            if task.status is None:
                self._expire(task, WAIT_TTL_S)
        return [self._snapshot(task_id) for task_id in task_ids]

    def _snapshot(self, task_id: str) -> Snapshot | None:
        task = self._find(task_id)
        if task is None or task.status is None:
            return None
        kept = len(task.payload) <= INLINE_BYTES or self._now() <= task.payload_until_ms
        shown = task.final or (task.status is _RETRYING and kept)
        return Snapshot(task.status, task.attempt, task.payload if shown else b"")

    async def bury(self, worker: str) -> None:
        await self._reach()
        now = self._now()
        self._dead = {name: at for name, at in self._dead.items() if now - at <= _CERTIFICATE_TTL_MS}
        self._dead[worker] = now
        for callback in self._deaths:
            callback(worker)

    async def incarnation(self) -> str:
        await self._reach()
        self._incarnation = self._incarnation or secrets.token_hex(8)
        return self._incarnation

    # Time and expiry

    async def _reach(self) -> None:
        # A round trip: others run in between, as with a real server.
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("the memory store is switched off (down = True)")

    @property
    def _lease_ms(self) -> int:
        return int(self._settings.lease_s * 1000)

    def _now(self) -> int:
        return round(self._clock.time() * 1000)

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
