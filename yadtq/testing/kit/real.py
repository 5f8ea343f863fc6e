"""The servers of one world, real ones: those of the app's settings, under a name that no other world has."""

from __future__ import annotations

import copy
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

from yadtq.errors import ConfigError
from yadtq.testing.kit.servers import MemoryServers, letters
from yadtq.testing.kit.submits import Recording, Submits
from yadtq.testing.kit.virtual_time import VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.app import Yadtq
    from yadtq.outside import Outside
    from yadtq.runtime.seams import Broker
    from yadtq.wire.deadletter import DeadLetter

__all__ = ["RealServers", "RealTime", "Servers"]

_LOOK_S = 0.02
_DAY_S = 86_400.0


class RealTime(VirtualTime):
    """It can't be moved: the servers have clocks of their own."""

    async def advance(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        target = self.now() + seconds
        while not until() and self.now() < target:
            await self.hooks.move(_LOOK_S)


class RealServers:
    """As `MemoryServers`. Its topics stay on the broker."""

    in_memory = False

    def __init__(self, app: Yadtq) -> None:
        self.app = copy.copy(app)
        self.app.name = f"{app.name}-test-{uuid.uuid4().hex[:12]}"
        self.settings = app.settings
        self._own = self.app.outside()
        self.names = self._own.names
        self.store = self._own.store
        self.submits = Submits(app.registry, self.names)

    async def start(self) -> None:
        await self.store.start()

    async def aclose(self) -> None:
        await self.store.aclose()

    def outside(self, pid: int) -> Outside:
        given = self.app.outside()
        return replace(given, broker=cast("Broker", Recording(given.broker, self.submits)))

    async def dead_letters(self) -> list[DeadLetter]:
        return letters(await self._own.broker.recent(self.names.dead, _DAY_S))

    def lose_redis(self) -> NoReturn:
        self._refuse("lose_redis()")

    def kafka_down(self, down: bool) -> NoReturn:
        self._refuse("kafka_outage()")

    def redis_down(self, down: bool) -> NoReturn:
        self._refuse("redis_outage()")

    @staticmethod
    def _refuse(what: str) -> NoReturn:
        raise ConfigError(f"{what} needs servers in memory: skip the test unless `world.in_memory`")


Servers: TypeAlias = MemoryServers | RealServers
