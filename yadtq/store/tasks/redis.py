"""The state of tasks in Redis: every verb a script, a batch a call.

Small results live in the task's hash. One over 64 bytes gets a key of its own, since a single longer field makes Redis
turn the whole compact hash into a table of three times the size (`hash-max-listpack-value`); that key carries the
attempt's nonce and state, so a finish that is refused has overwritten nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from yadtq.store.scripts import Script, Scripts, within
from yadtq.store.tasks.verbs import INLINE_BYTES, SUSPECT_FROM, WAIT_TTL_S, ClaimReply, Snapshot
from yadtq.wire.codec import compress, decompress
from yadtq.wire.states import STATE_OF_CODE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from yadtq.settings import Settings
    from yadtq.store.keys import Keys
    from yadtq.store.tasks.verbs import Claim, Finish, Lease

__all__ = ["RedisTasks", "parse_news"]

_REGISTER, _CLAIM, _RENEW, _RELEASE, _FINISH, _WAIT = (
    Script(f"tasks/{name}") for name in ("register", "claim", "renew", "release", "finish", "wait")
)


class RedisTasks:
    """`verbs.Tasks` on Redis. Safe for concurrent calls."""

    def __init__(self, redis: Redis, scripts: Scripts, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._lease_ms = int(settings.lease_s * 1000)

    async def register(self, task_ids: Sequence[str]) -> None:
        prefix = self._keys.task
        await self._scripts.call(_REGISTER, [prefix + id_ for id_ in task_ids], [self._settings.queued_ttl_s])

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        prefix = self._keys.task
        keys = [self._keys.dead]
        args: list[Any] = [self._lease_ms, self._settings.queued_ttl_s, worker, suspects, SUSPECT_FROM]
        for task_id, nonce in claims:
            keys.append(prefix + task_id)
            args.append(nonce)
        flat = iter(await self._scripts.call(_CLAIM, keys, args))
        return [ClaimReply(*reply) for reply in zip(flat, flat, flat, flat, strict=True)]

    async def renew(self, worker: str, leases: Sequence[Lease]) -> list[bool]:
        if not leases:
            return []
        args: list[Any] = [self._lease_ms, self._settings.queued_ttl_s, worker]
        for lease in leases:
            args += (lease.nonce, lease.attempt, int(lease.restorable))
        answer = await self._scripts.call(_RENEW, [self._keys.task + lease.task_id for lease in leases], args)
        return [held == 1 for held in answer]

    async def release(self, leases: Sequence[Lease]) -> list[bool]:
        if not leases:
            return []
        keys = [self._keys.task + lease.task_id for lease in leases]
        answer = await self._scripts.call(_RELEASE, keys, [lease.nonce for lease in leases])
        return [given == 1 for given in answer]

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        prefix = self._keys.task
        keys: list[str] = []
        args: list[Any] = [self._settings.result_ttl_s, self._settings.queued_ttl_s, self._keys.waiter]
        large: list[tuple[str, bytes, int]] = []
        for task_id, nonce, attempt, status, payload, due_ms, restorable in finishes:
            if len(payload) > INLINE_BYTES:
                name = nonce + status.code
                ttl_s = self._settings.result_ttl_s + due_ms // 1000
                large.append((f"{self._keys.result}{task_id}:{name}", payload, ttl_s))
                payload = b"@" + name.encode()
            keys.append(prefix + task_id)
            args += (task_id, nonce, attempt, status.code, payload, due_ms, int(restorable))
        if large:
            await self._write_large(large)
        return [accepted == 1 for accepted in await self._scripts.call(_FINISH, keys, args)]

    async def _write_large(self, results: list[tuple[str, bytes, int]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for key, payload, ttl_s in results:
            pipe.set(key, compress(payload, self._settings.compress_over_bytes), ex=ttl_s)
        await within(self._settings.redis_timeout_s, pipe.execute(), "storing results")

    async def snapshots(self, task_ids: Sequence[str]) -> list[Snapshot | None]:
        return await self._read("", task_ids)

    async def wait(self, channel: str, task_ids: Sequence[str]) -> list[Snapshot | None]:
        return await self._read(channel, task_ids)

    async def _read(self, channel: str, task_ids: Sequence[str]) -> list[Snapshot | None]:
        flat = iter(await self._scripts.call(_WAIT, [self._keys.task + id_ for id_ in task_ids], [channel, WAIT_TTL_S]))
        found: list[Snapshot | None] = []
        for state, attempt, payload in zip(flat, flat, flat, strict=True):
            found.append(
                Snapshot(STATE_OF_CODE[state.decode()], int(attempt), bytes(payload)) if state is not None else None
            )
        return await self.fetch_large(task_ids, found)

    async def fetch_large(self, task_ids: Sequence[str], found: Sequence[Snapshot | None]) -> list[Snapshot | None]:
        """Snapshots with payloads from keys of their own put in. Where one has expired, a final state is None."""
        whole = list(found)
        wanted = [
            (at, f"{self._keys.result}{task_ids[at]}:{snapshot.payload[1:].decode()}")
            for at, snapshot in enumerate(whole)
            if snapshot is not None and snapshot.payload.startswith(b"@")
        ]
        if wanted:
            values = await within(
                self._settings.redis_timeout_s, self._redis.mget([key for _, key in wanted]), "reading results"
            )
            for (at, _), value in zip(wanted, values, strict=True):
                snapshot = whole[at]
                if snapshot is None:
                    continue
                if value is None:
                    # Results and states expire together; the last error of a retry that waits for long may go before.
                    whole[at] = None if snapshot.status.final else snapshot._replace(payload=b"")
                else:
                    # The worker has kept to max_result_bytes; here only a bomb has to be stopped.
                    whole[at] = snapshot._replace(payload=decompress(cast("bytes", value), 1 << 30))
        return whole


def parse_news(message: bytes) -> list[tuple[str, Snapshot]]:
    """What `finish` publishes to waiters: (task id, snapshot) of each task in one message."""
    news = []
    for line in message.split(b"\n"):
        task_id, state, attempt, payload = line.split(b"\t", 3)
        news.append((task_id.decode(), Snapshot(STATE_OF_CODE[state.decode()], int(attempt), payload)))
    return news
