"""The state of tasks in Redis: every verb a script, a batch a call.

Small results live in the task's hash. One over 64 bytes gets a key of its own, since a single longer field makes Redis
turn the whole compact hash into a table of three times the size (`hash-max-listpack-value`); that key carries the
attempt's nonce and state, so a finish that is refused has overwritten nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from yadtq.store.answers import Misread, integers, nothing, yes_or_no
from yadtq.store.scripts import Script, Scripts
from yadtq.store.tasks.verbs import (
    CHANNELS_MOST,
    FOREIGN,
    INLINE_BYTES,
    SUSPECT_FROM,
    WAIT_TTL_S,
    ClaimReply,
    Found,
    Snapshot,
    Unreadable,
)
from yadtq.wire.codec import CodecError, compress, decompress
from yadtq.wire.states import STATE_OF_CODE, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.settings import Settings
    from yadtq.store.keys import Keys
    from yadtq.store.link import Link
    from yadtq.store.tasks.verbs import Claim, Finish, Lease

__all__ = ["RedisTasks", "parse_news"]

_REGISTER, _CLAIM, _RENEW, _RELEASE, _FINISH, _WAIT, _UNWAIT = (
    Script(f"tasks/{name}", before="tasks/state")
    for name in ("register", "claim", "renew", "release", "finish", "wait", "unwait")
)
_STATUS = {code.encode(): status for code, status in STATE_OF_CODE.items()}
#: An error with its traceback may be read even above `max_result_bytes`: the worker has cut it below this.
_ERROR_BYTES = 65_536


class RedisTasks:
    """`verbs.Tasks` on Redis. Safe for concurrent calls."""

    def __init__(self, link: Link, scripts: Scripts, keys: Keys, settings: Settings) -> None:
        self._link = link
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._lease_ms = int(settings.lease_s * 1000)

    async def register(self, task_ids: Sequence[str], data_set: str = "", homes: Sequence[str] = ()) -> bool:
        prefix = self._keys.task
        keys = [self._keys.data_set, *(prefix + id_ for id_ in task_ids)]
        return await self._scripts.call(_REGISTER, keys, [self._settings.queued_ttl_s, data_set, *homes], yes_or_no)

    async def claim(self, worker: str, claims: Sequence[Claim], suspects: int) -> list[ClaimReply]:
        prefix = self._keys.task
        keys = [self._keys.dead]
        args: list[Any] = [self._lease_ms, self._settings.queued_ttl_s, worker, suspects, SUSPECT_FROM]
        for task_id, nonce, home in claims:
            keys.append(prefix + task_id)
            args += (nonce, home)
        count = 4 * len(claims)
        flat = iter(await self._scripts.call(_CLAIM, keys, args, lambda answer: integers(answer, count, FOREIGN)))
        return [ClaimReply(*reply) for reply in zip(flat, flat, flat, flat, strict=True)]

    async def renew(self, worker: str, leases: Sequence[Lease]) -> list[bool]:
        if not leases:
            return []
        args: list[Any] = [self._lease_ms, self._settings.queued_ttl_s, worker]
        for lease in leases:
            args += (lease.nonce, lease.attempt, (lease.home or 1) if lease.restorable else 0)
        return await self._decide(_RENEW, [self._keys.task + lease.task_id for lease in leases], args)

    async def release(self, leases: Sequence[Lease]) -> list[bool]:
        if not leases:
            return []
        keys = [self._keys.task + lease.task_id for lease in leases]
        return await self._decide(_RELEASE, keys, [lease.nonce for lease in leases])

    async def _decide(self, script: Script, keys: list[str], args: list[Any]) -> list[bool]:
        """Yes or no for each key."""
        answer = await self._scripts.call(script, keys, args, lambda answer: integers(answer, len(keys), 0))
        return [number == 1 for number in answer]

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        prefix = self._keys.task
        keys: list[str] = []
        args: list[Any] = [self._settings.result_ttl_s, self._settings.queued_ttl_s, self._keys.waiter]
        large: list[tuple[str, bytes, int]] = []
        for task_id, nonce, attempt, status, payload, due_ms, restorable, home in finishes:
            if len(payload) > INLINE_BYTES:
                name = nonce + status.code
                ttl_s = self._settings.result_ttl_s + due_ms // 1000
                stored = self._packed(status, payload)
                large.append((f"{self._keys.result}{task_id}:{name}", stored, ttl_s))
                payload = b"@" + name.encode()
            keys.append(prefix + task_id)
            args += (task_id, nonce, attempt, status.code, payload, due_ms, (home or 1) if restorable else 0)
        if large:
            await self._write_large(large)
        return await self._decide(_FINISH, keys, args)

    def _packed(self, status: TaskStatus, payload: bytes) -> bytes:
        if status is TaskStatus.SUCCESS:
            return compress(payload, self._settings.compress_over_bytes)
        # Tracebacks are long, alike and seldom read.
        return compress(payload, INLINE_BYTES, level=9)

    async def _write_large(self, results: list[tuple[str, bytes, int]]) -> None:
        pipe = self._link.redis.pipeline(transaction=False)
        for key, payload, ttl_s in results:
            pipe.set(key, payload, ex=ttl_s)
        await self._link.within(pipe.execute(), "storing results")

    async def snapshots(self, task_ids: Sequence[str]) -> list[Found]:
        return await self._read("", task_ids)

    async def wait(self, channel: str, task_ids: Sequence[str]) -> list[Found]:
        return await self._read(channel, task_ids)

    async def unwait(self, channel: str, task_ids: Sequence[str]) -> None:
        await self._scripts.call(_UNWAIT, [self._keys.task + id_ for id_ in task_ids], [channel], nothing)

    async def _read(self, channel: str, task_ids: Sequence[str]) -> list[Found]:
        keys = [self._keys.data_set, *(self._keys.task + id_ for id_ in task_ids)]
        args = [channel, WAIT_TTL_S, CHANNELS_MOST]
        found = await self._scripts.call(_WAIT, keys, args, lambda answer: _parse_states(answer, len(task_ids)))
        return await self.fetch_large(task_ids, found)

    async def fetch_large(self, task_ids: Sequence[str], found: Sequence[Found]) -> list[Found]:
        whole = list(found)
        wanted = [
            (at, f"{self._keys.result}{task_ids[at]}:".encode() + snapshot.payload[1:])
            for at, snapshot in enumerate(whole)
            if isinstance(snapshot, Snapshot) and snapshot.payload.startswith(b"@")
        ]
        if wanted:
            values = await self._link.within(self._get([key for _, key in wanted]), "reading results")
            for (at, _), value in zip(wanted, values, strict=True):
                snapshot = whole[at]
                if isinstance(snapshot, Snapshot):
                    whole[at] = self._with_payload(snapshot, value)
        return whole

    async def _get(self, keys: list[bytes]) -> list[bytes | None]:
        values = await self._link.redis.mget(keys)
        if len(values) != len(keys) or not all(value is None or type(value) is bytes for value in values):
            raise Misread(f"expected {len(keys)} strings")
        return cast("list[bytes | None]", values)

    def _with_payload(self, snapshot: Snapshot, value: bytes | None) -> Found:
        if value is None:
            # Results and states expire together; the last error of a retry that waits for long may go before.
            return None if snapshot.status.final else snapshot._replace(payload=b"")
        limit = self._settings.max_result_bytes
        if snapshot.status is not TaskStatus.SUCCESS:
            limit = max(limit, _ERROR_BYTES)
        try:
            payload = decompress(value, limit)
        except CodecError as error:
            return Unreadable(str(error), snapshot.status)
        if len(payload) > limit:
            return Unreadable(f"it has {len(payload)} bytes, and max_result_bytes is {limit} here", snapshot.status)
        return snapshot._replace(payload=payload)


def _parse_states(answer: Any, count: int) -> list[Found]:
    """What `wait` returns: three values for each task. Raises `Misread`."""
    if type(answer) is not list or len(answer) != 3 * count:
        raise Misread(f"expected {3 * count} values")
    flat = iter(answer)
    found: list[Found] = []
    for state, attempt, payload in zip(flat, flat, flat, strict=True):
        if state is None:
            found.append(None)
        elif (status := _STATUS.get(state if type(state) is bytes else b"")) is None:
            found.append(Unreadable("its state is none that this version knows"))
        elif type(attempt) is not bytes or not attempt.isdigit() or len(attempt) > 15 or type(payload) is not bytes:
            found.append(Unreadable("its attempt is no number", status))
        else:
            found.append(Snapshot(status, int(attempt), payload))
    return found


def parse_news(message: bytes) -> list[tuple[str, Snapshot]]:
    """What `finish` publishes to waiters: (task id, snapshot) of each task in one message.

    Other messages are ignored: any client may publish, and waiters check again by themselves.
    """
    news = []
    for line in message.split(b"\n"):
        parts = line.split(b"\t", 3)
        if len(parts) != 4 or (status := _STATUS.get(parts[1])) is None:
            continue
        if status.final and parts[2].isdigit() and len(parts[2]) <= 15:
            news.append((parts[0].decode(errors="replace"), Snapshot(status, int(parts[2]), parts[3])))
    return news
