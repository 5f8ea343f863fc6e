"""`verbs.Store` without Redis, on a clock that the test controls: the families of verbs on one server in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from yadtq.runtime.service import Service
from yadtq.settings import Settings
from yadtq.store.deaths.memory import CONTROL
from yadtq.store.families import MemoryFamilies
from yadtq.store.memory_server import MemoryServer
from yadtq.store.tasks.memory import ENDS
from yadtq.store.verbs import DataSet

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.clock import Clock
    from yadtq.store.verbs import News

__all__ = ["MemoryStore", "Saved"]

#: A data set as it was at one moment. Opaque: only for `MemoryStore.restore`.
Saved: TypeAlias = "dict[str, Any]"


class MemoryStore(MemoryFamilies):
    """One data set. Several processes of a test share it."""

    def __init__(self, clock: Clock, chance: random.Random, settings: Settings | None = None) -> None:
        super().__init__(MemoryServer(clock), settings or Settings.load())
        self._chance = chance

    @property
    def down(self) -> bool:
        """Settable. While True every verb raises `StoreUnavailable`."""
        return self.server.down

    @down.setter
    def down(self, down: bool) -> None:
        self.server.down = down

    def flush(self) -> None:
        """Lose all data, as a server without persistence does in a restart. Subscriptions stay."""
        for family in self.families.values():
            family.clear()
        self.server.data_set = self.server.mark = ""

    def snapshot(self) -> Saved:
        """The data set as it is now."""
        return {name: family.save() for name, family in self.families.items()}

    def restore(self, saved: Saved) -> None:
        """Go back in time, as a server does that comes back from a snapshot. Subscriptions stay.

        Everyone who asks for the data set learns of it. (Redis finds it out when somebody asks who has seen more.)
        """
        for name, family in self.families.items():
            family.load(saved[name])
        self.server.data_set = self.server.mark = self._name()

    async def start(self) -> None:
        await self.server.reach()

    async def aclose(self) -> None:
        """The data stay."""

    async def data_set(self) -> DataSet:
        await self.server.reach()
        name = self.server.data_set = self.server.data_set or self._name()
        return DataSet(name, max(0, self._now_ms() - int(name.partition("-")[0])) / 1000)

    def _name(self) -> str:
        return f"{self._now_ms()}-{self._chance.getrandbits(64):016x}"

    def _now_ms(self) -> int:
        return int(self.server.clock.time() * 1000)

    def hear_control(self, on_message: Callable[[bytes], None], on_gap: Callable[[], None]) -> Service:
        return _Listening(self.server, CONTROL, on_message, on_gap)

    def hear_ends(self, channel: str, on_news: Callable[[Sequence[News]], None], on_gap: Callable[[], None]) -> Service:
        return _Listening(self.server, ENDS + channel, on_news, on_gap)


class _Listening(Service):
    """Messages and gaps arrive in the listener's own loop, in a separate step, as from a connection."""

    name = "subscription"

    def __init__(
        self, server: MemoryServer, channel: str, hear: Callable[[Any], None], on_gap: Callable[[], None]
    ) -> None:
        self._server = server
        self._channel = channel
        self._hear = hear
        self._on_gap = on_gap
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        loop = asyncio.get_running_loop()

        def post(message: Any) -> None:
            loop.call_soon_threadsafe(self._deliver, message)

        def post_gap() -> None:
            loop.call_soon_threadsafe(self._on_gap)

        listeners = self._server.channels.setdefault(self._channel, [])
        listeners.append(post)
        self._server.on_cut.append(post_gap)
        try:
            self._on_gap()
            task_status.started()
            await self._stopped.wait()
        finally:
            listeners.remove(post)
            self._server.on_cut.remove(post_gap)

    def _deliver(self, message: Any) -> None:
        if not self._stopped.is_set():
            self._hear(message)
