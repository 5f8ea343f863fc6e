"""What the families of verbs share in memory: one server that answers or doesn't, its clock, and who listens to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from yadtq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yadtq.runtime.clock import Clock
    from yadtq.store.verbs import News

__all__ = ["MemoryServer"]


class MemoryServer:
    """What the families share: whether the server answers, its clock, and who listens. down: True: it doesn't answer."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.down = False
        self.control: list[Callable[[bytes], None]] = []
        self.ends: dict[str, list[Callable[[Sequence[News]], None]]] = {}

    async def reach(self) -> None:
        """A round trip: others run in between, as with a real server. Raises `StoreUnavailable`."""
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("the memory store is switched off (down = True)")

    def tell_control(self, message: bytes) -> None:
        for tell in list(self.control):
            tell(message)

    def tell_ends(self, channel: str, news: Sequence[News]) -> None:
        for tell in list(self.ends.get(channel, ())):
            tell(news)
