"""`verbs.Store` without Redis, on a clock that the test holds: the families of verbs on one server in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from yadtq.runtime.service import Service
from yadtq.settings import Settings
from yadtq.store.deaths.memory import MemoryDeaths
from yadtq.store.memory_server import MemoryServer
from yadtq.store.tasks.memory import MemoryTasks

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.clock import Clock
    from yadtq.store.verbs import News

__all__ = ["MemoryStore"]

M = TypeVar("M")


class MemoryStore:
    """One data set. Several processes of a test share it."""

    def __init__(self, clock: Clock, chance: random.Random, settings: Settings | None = None) -> None:
        self.server = MemoryServer(clock)
        self.deaths = MemoryDeaths(self.server)
        self.tasks = MemoryTasks(self.server, self.deaths, settings or Settings.load())
        self._chance = chance
        self._incarnation = ""

    @property
    def down(self) -> bool:
        """Settable. While True every verb raises `StoreUnavailable`."""
        return self.server.down

    @down.setter
    def down(self, down: bool) -> None:
        self.server.down = down

    def flush(self) -> None:
        """Lose all data, as a server without persistence does in a restart. Subscriptions stay."""
        self.tasks.clear()
        self.deaths.clear()
        self._incarnation = ""

    async def start(self) -> None:
        await self.server.reach()

    async def aclose(self) -> None:
        """The data stay."""

    async def incarnation(self) -> str:
        await self.server.reach()
        self._incarnation = self._incarnation or f"{self._chance.getrandbits(64):016x}"
        return self._incarnation

    def hear_control(self, on_message: Callable[[bytes], None], on_gap: Callable[[], None]) -> Service:
        return _Listening(self.server.control, on_message, on_gap)

    def hear_ends(self, channel: str, on_news: Callable[[Sequence[News]], None], on_gap: Callable[[], None]) -> Service:
        return _Listening(self.server.ends.setdefault(channel, []), on_news, on_gap)


class _Listening(Service, Generic[M]):
    """Messages come in the listener's own loop, in a step of their own, as from a connection."""

    name = "subscription"

    def __init__(
        self, listeners: list[Callable[[M], None]], hear: Callable[[M], None], on_gap: Callable[[], None]
    ) -> None:
        self._listeners = listeners
        self._hear = hear
        self._on_gap = on_gap
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        loop = asyncio.get_running_loop()

        def tell(message: M) -> None:
            loop.call_soon_threadsafe(self._hear, message)

        self._listeners.append(tell)
        try:
            self._on_gap()
            task_status.started()
            await self._stopped.wait()
        finally:
            self._listeners.remove(tell)
