"""`verbs.Store` on Redis: the families of verbs on one set of connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yadtq.store.deaths.redis  # noqa: F401 - RedisFamilies needs it: an import inside a loop would block that
from yadtq.runtime.clock import SystemClock
from yadtq.store.answers import Misread
from yadtq.store.connecting import connect
from yadtq.store.contact import first_contact
from yadtq.store.families import RedisFamilies
from yadtq.store.keys import Keys
from yadtq.store.link import Link
from yadtq.store.probe import probe
from yadtq.store.scripts import Script, Scripts
from yadtq.store.subscription import Subscription
from yadtq.store.tasks.redis import parse_news
from yadtq.store.verbs import DataSet

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from yadtq.runtime.clock import Clock
    from yadtq.settings import Settings
    from yadtq.store.verbs import News

__all__ = ["RedisStore"]

_DATA_SET = Script("data_set")


class RedisStore(RedisFamilies):
    """One a process; safe for concurrent calls."""

    def __init__(
        self,
        settings: Settings,
        app: str,
        chance: random.Random,
        *,
        redis: Redis | None = None,
        clock: Clock | None = None,
    ) -> None:
        """redis: the caller's own client. clock: for the log of outages."""
        self.keys = Keys(app)
        self.redis = redis if redis is not None else connect(settings)
        self._app = app
        self._settings = settings
        self._chance = chance
        self._link = Link(self.redis, settings.redis_timeout_s, clock or SystemClock())
        self._scripts = Scripts(self._link)
        super().__init__(self._link, self._scripts, self.keys, settings)
        #: Name and count of the data set, the highest that was seen.
        self._seen = ("", 0)

    async def start(self) -> None:
        """Raises `ConfigError` for what waiting does not fix, with the setting to look at, else `StoreUnavailable`."""
        check = probe(self._link, self.keys, self._app, self._settings.connect_timeout_s)
        await first_contact(check, self.redis)

    async def aclose(self) -> None:
        await self._link.aclose()

    async def data_set(self) -> DataSet:
        name, count = self._seen
        args = [f"{self._chance.getrandbits(64):016x}", name, count]
        name, count, age_ms = await self._scripts.call(_DATA_SET, [self.keys.data_set], args, _data_set)
        # Answers of two calls may come in either order.
        self._seen = (name, max(count, self._seen[1]) if name == self._seen[0] else count)
        return DataSet(name, age_ms / 1000)

    def hear_control(self, on_message: Callable[[bytes], None], on_gap: Callable[[], None]) -> Subscription:
        return Subscription(self._link, self.keys.control, on_message, on_gap)

    def hear_ends(
        self, channel: str, on_news: Callable[[Sequence[News]], None], on_gap: Callable[[], None]
    ) -> Subscription:
        return Subscription(
            self._link, self.keys.waiter + channel, lambda message: on_news(parse_news(message)), on_gap
        )


def _data_set(answer: Any) -> tuple[str, int, int]:
    if type(answer) is list and [type(part) for part in answer] == [bytes, int, int]:
        return answer[0].decode(errors="replace"), answer[1], answer[2]
    raise Misread("expected the name, count and age of the data set")
