"""The families of verbs that a store has, on Redis and in memory: a new family is an attribute in each class here.

`verbs.Store` declares the same attributes, as the protocol that the rest of the code sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.store.deaths.memory import MemoryDeaths
from yadtq.store.tasks.memory import MemoryTasks

if TYPE_CHECKING:
    from yadtq.settings import Settings
    from yadtq.store.keys import Keys
    from yadtq.store.link import Link
    from yadtq.store.memory_server import MemoryServer
    from yadtq.store.scripts import Scripts

__all__ = ["MemoryFamilies", "RedisFamilies"]


class RedisFamilies:
    """All on one set of connections."""

    def __init__(self, link: Link, scripts: Scripts, keys: Keys, settings: Settings) -> None:
        # Here, since servers in memory need not import redis, which takes 50 ms.
        from yadtq.store.deaths.redis import RedisDeaths
        from yadtq.store.tasks.redis import RedisTasks

        self.tasks = RedisTasks(link, scripts, keys, settings)
        self.deaths = RedisDeaths(scripts, keys)


class MemoryFamilies:
    """All on one server in memory. Each has `clear`, `save` and `load`."""

    def __init__(self, server: MemoryServer, settings: Settings) -> None:
        self.server = server
        self.deaths = MemoryDeaths(server)
        self.tasks = MemoryTasks(server, self.deaths, settings)

    @property
    def families(self) -> dict[str, Any]:
        """By name."""
        return {name: each for name, each in vars(self).items() if hasattr(each, "load")}
