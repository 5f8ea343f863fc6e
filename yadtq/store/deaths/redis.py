"""Death certificates in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.store.answers import nothing
from yadtq.store.scripts import Script

if TYPE_CHECKING:
    from yadtq.store.keys import Keys
    from yadtq.store.scripts import Scripts

__all__ = ["RedisDeaths"]

_BURY = Script("deaths/bury")


class RedisDeaths:
    """`verbs.Deaths` on Redis."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = keys

    async def bury(self, worker: str, *, outside: bool = False) -> None:
        await self._scripts.call(
            _BURY, [self._keys.dead], [worker, self._keys.control, "o" if outside else ""], nothing
        )
