"""One handle on both stores: the same calls, the same reading of what they hold, and time that can be made to pass.

On Redis time is its own, so an hour passes by moving every moment that is written down an hour into the past.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol, cast

from yadtq.settings import Settings
from yadtq.store.keys import Keys
from yadtq.store.redis import RedisStore
from yadtq.store.tasks.memory import ENDS
from yadtq.store.tasks.redis import parse_news
from yadtq.store.tasks.verbs import Snapshot
from yadtq.testing.doubles import ManualClock, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.client import PubSub

    from yadtq.store.verbs import News, Store

#: No sum of these steps is near the lease, a TTL or a delay of the tests: real time may pass on Redis meanwhile.
STEP_MS = 7_000
LEASE_MS = 10_000
DELAY_MS = 3_000
RESULT_TTL_S, QUEUED_TTL_S = 61, 1_000

_ADVANCE = """
local ms = tonumber(ARGV[2])
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  if key == ARGV[1] .. 'dead' then
    for _, worker in ipairs(redis.call('HKEYS', key)) do
      local at, outside = string.match(redis.call('HGET', key, worker), '^(%d+)(.*)$')
      redis.call('HSET', key, worker, string.format('%d', at - ms) .. outside)
    end
  elseif redis.call('TYPE', key).ok == 'hash' and redis.call('HEXISTS', key, 'l') == 1 then
    redis.call('HINCRBY', key, 'l', string.format('%d', -ms))
  end
  local left = redis.call('PTTL', key)
  if left > 0 then
    if left > ms then redis.call('PEXPIRE', key, string.format('%d', left - ms)) else redis.call('DEL', key) end
  end
end
"""


def settings(**given: object) -> Settings:
    fixed = {"lease_s": LEASE_MS / 1000, "result_ttl_s": RESULT_TTL_S, "queued_ttl_s": QUEUED_TTL_S}
    return Settings.load(**{**fixed, **given})


class Harness(Protocol):
    name: str
    store: Store

    async def advance(self, ms: int) -> None: ...
    async def flush(self) -> None: ...
    async def damage(self, task_id: str) -> None:
        """From now on what is stored of the task can't be read."""
        ...

    async def save(self) -> None: ...
    async def restore(self) -> None:
        """Go back in time, to the last `save`."""
        ...

    async def cut(self) -> None:
        """End the connections of all subscriptions."""
        ...

    async def dump(self) -> dict[str, dict[str, str]]:
        """All tasks in the letters of store/keys.py, without lease ends and payloads."""
        ...

    async def listen(self, channel: str) -> None: ...
    async def news(self, channel: str) -> list[Sequence[News]]:
        """Every message published to `channel` since `listen` or the last call."""
        ...

    async def aclose(self) -> None: ...


class MemoryHarness:
    name = "memory"

    def __init__(self, **given: object) -> None:
        self.clock = ManualClock()
        self.memory = MemoryStore(self.clock, random.Random(0), settings(**given))
        self.store: Store = self.memory
        self._heard: dict[str, list[Sequence[News]]] = {}

    async def advance(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    async def flush(self) -> None:
        self.memory.flush()

    async def damage(self, task_id: str) -> None:
        self.memory.tasks.damage(task_id)

    async def save(self) -> None:
        self._saved = self.memory.snapshot()

    async def restore(self) -> None:
        self.memory.restore(self._saved)

    async def cut(self) -> None:
        self.memory.server.cut()

    async def dump(self) -> dict[str, dict[str, str]]:
        return self.memory.tasks.dump()

    async def listen(self, channel: str) -> None:
        heard = self._heard.setdefault(channel, [])
        self.memory.server.channels.setdefault(ENDS + channel, []).append(heard.append)

    async def news(self, channel: str) -> list[Sequence[News]]:
        heard = list(self._heard[channel])
        self._heard[channel].clear()
        return heard

    async def aclose(self) -> None:
        pass


class RedisHarness:
    name = "redis"

    def __init__(self, url: str, app: str, **given: object) -> None:
        self.redis_store = RedisStore(settings(redis=url, **given), app, random.Random(app))
        self.store: Store = self.redis_store
        self.redis = self.redis_store.redis
        self.keys = Keys(app)
        self.prefix = self.keys.dead.removesuffix("dead")
        self._listening: dict[str, PubSub] = {}
        self._advanced_ms = 0

    async def advance(self, ms: int) -> None:
        self._advanced_ms += ms
        await self.redis.eval(_ADVANCE, 0, self.prefix, ms)

    async def now_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return seconds * 1000 + micros // 1000

    async def all_keys(self) -> list[str]:
        return [key.decode() async for key in self.redis.scan_iter(self.prefix + "*", count=1_000)]

    async def flush(self) -> None:
        if keys := await self.all_keys():
            await self.redis.delete(*keys)

    async def damage(self, task_id: str) -> None:
        await self.redis.set(self.keys.task + task_id, "x")

    async def save(self) -> None:
        await self.store.data_set()
        self._saved_at_ms = self._advanced_ms
        self._saved = {
            key: (await self.redis.dump(key), await self.redis.pexpiretime(key)) for key in await self.all_keys()
        }
        # Redis counts looks by the second. One is seen after what was saved, as some are in any real outage.
        await self.redis.hset(self.keys.data_set, "t", 1)
        await self.store.data_set()

    async def restore(self) -> None:
        await self.flush()
        for key, (value, until_ms) in self._saved.items():
            if value is not None:
                await self.redis.restore(key, max(0, until_ms), value, absttl=until_ms > 0)
        await self.redis.eval(_ADVANCE, 0, self.prefix, self._advanced_ms - self._saved_at_ms)
        await self.store.data_set()

    async def cut(self) -> None:
        await self.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def dump(self) -> dict[str, dict[str, str]]:
        found = {}
        for key in await self.all_keys():
            if key.endswith("{damaged}"):
                continue
            if key.startswith(self.keys.task) and await self.redis.type(key) != b"hash":
                found[key.removeprefix(self.keys.task)] = {"damaged": "yes"}
            elif key.startswith(self.keys.task):
                hashed = cast("dict[bytes, bytes]", await self.redis.hgetall(key))
                fields = {name.decode(): value.decode() for name, value in hashed.items()}
                found[key.removeprefix(self.keys.task)] = {k: v for k, v in fields.items() if k not in "lrm"}
        return found

    async def listen(self, channel: str) -> None:
        pubsub = self._listening[channel] = self.redis.pubsub()
        await pubsub.subscribe(self.keys.waiter + channel)
        await pubsub.get_message(timeout=5)  # the confirmation

    async def news(self, channel: str) -> list[Sequence[News]]:
        # What was published before this marker has arrived before it.
        await self.redis.publish(self.keys.waiter + channel, b"marker")
        heard: list[Sequence[News]] = []
        async with asyncio.timeout(5):
            while True:
                message = await self._listening[channel].get_message(timeout=5)
                if message is not None and message["data"] == b"marker":
                    return heard
                if message is not None and message["type"] == "message":
                    news = parse_news(message["data"])
                    ids = [task_id for task_id, _ in news]
                    whole = await self.redis_store.tasks.fetch_large(ids, [snapshot for _, snapshot in news])
                    heard.append(
                        [
                            (id_, got if isinstance(got, Snapshot) else told)
                            for (id_, told), got in zip(news, whole, strict=True)
                        ]
                    )

    async def aclose(self) -> None:
        for pubsub in self._listening.values():
            await pubsub.aclose()
        await self.flush()
        await self.redis_store.aclose()
