"""`verbs.Store` on Redis: the families of verbs on one set of connections."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from redis.exceptions import ResponseError

from yadtq.store.deaths.redis import RedisDeaths
from yadtq.store.keys import Keys
from yadtq.store.scripts import Scripts, connect, within
from yadtq.store.subscription import Subscription
from yadtq.store.tasks.redis import RedisTasks, parse_news

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from yadtq.settings import Settings
    from yadtq.store.verbs import News

__all__ = ["RedisStore"]

log = logging.getLogger("yadtq.store")


class RedisStore:
    """One a process; safe for concurrent calls."""

    def __init__(self, settings: Settings, app: str, chance: random.Random, *, redis: Redis | None = None) -> None:
        self.keys = Keys(app)
        self.redis = redis if redis is not None else connect(settings)
        self._settings = settings
        self._chance = chance
        self._scripts = Scripts(self.redis, settings.redis_timeout_s)
        self.tasks = RedisTasks(self.redis, self._scripts, self.keys, settings)
        self.deaths = RedisDeaths(self._scripts, self.keys)

    async def start(self) -> None:
        """Reach the server; warn of a configuration that would lose state. Raises `StoreUnavailable`."""
        await within(self._settings.connect_timeout_s, self.redis.ping(), "a ping")
        try:
            answer = await within(self._settings.redis_timeout_s, self.redis.config_get("maxmemory*"), "CONFIG GET")
        except ResponseError:  # hosted servers forbid CONFIG: nothing can be said then
            return
        if answer.get("maxmemory", "0") != "0" and answer.get("maxmemory-policy") != "noeviction":
            log.warning(
                "Redis may evict task state (maxmemory-policy is %s): set it to noeviction", answer["maxmemory-policy"]
            )

    async def aclose(self) -> None:
        await self._scripts.aclose()
        await self.redis.aclose()

    async def incarnation(self) -> str:
        mine = f"{self._chance.getrandbits(64):016x}"
        key = self.keys.incarnation
        seconds = self._settings.redis_timeout_s
        before = await within(seconds, self.redis.set(key, mine, nx=True, get=True), "its incarnation")
        return cast("bytes", before).decode() if before else mine

    def hear_control(self, on_message: Callable[[bytes], None], on_gap: Callable[[], None]) -> Subscription:
        return Subscription(self.redis, self.keys.control, on_message, on_gap, self._settings.redis_timeout_s)

    def hear_ends(
        self, channel: str, on_news: Callable[[Sequence[News]], None], on_gap: Callable[[], None]
    ) -> Subscription:
        return Subscription(
            self.redis,
            self.keys.waiter + channel,
            lambda message: on_news(parse_news(message)),
            on_gap,
            self._settings.redis_timeout_s,
        )
