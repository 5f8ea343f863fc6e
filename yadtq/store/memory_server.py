"""What the families of verbs share in memory: one server that can be switched off, its clock, and its listeners."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from yadtq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.runtime.clock import Clock

__all__ = ["MemoryServer"]


class MemoryServer:
    """down: True: it doesn't answer. data_set: its name, "" until it has one. mark: of the data set, if it went back in
    time.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.down = False
        self.data_set = ""
        self.mark = ""
        #: By channel, what to call with each message. On the publisher's stack: it must not do more than post it.
        self.channels: dict[str, list[Callable[[Any], None]]] = {}
        #: What to call when all subscriptions lose their connections.
        self.on_cut: list[Callable[[], None]] = []

    async def reach(self) -> None:
        """A round trip: others run in between, as with a real server. Raises `StoreUnavailable`."""
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("the memory store is switched off (down = True)")

    def cut(self) -> None:
        """Every subscription loses its connection and makes another."""
        for tell in list(self.on_cut):
            tell()

    def publish(self, channel: str, message: object) -> None:
        """To each listener of `channel`: bytes, or what its family makes of them."""
        for tell in list(self.channels.get(channel, ())):
            tell(message)
