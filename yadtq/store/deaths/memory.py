"""Death certificates in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.runtime.signals import DEAD

if TYPE_CHECKING:
    from yadtq.store.memory_server import MemoryServer

__all__ = ["CONTROL", "MemoryDeaths"]

CONTROL = "ctl"

_CERTIFICATE_TTL_MS = 3_600_000


class MemoryDeaths:
    """`verbs.Deaths` in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        #: Worker id to ms when its certificate was written.
        self.certified: dict[str, int] = {}
        #: Those of them whose process was ended from outside.
        self.outside: set[str] = set()

    def clear(self) -> None:
        self.certified = {}
        self.outside = set()

    def save(self) -> tuple[dict[str, int], set[str]]:
        return dict(self.certified), set(self.outside)

    def load(self, saved: tuple[dict[str, int], set[str]]) -> None:
        self.certified, self.outside = dict(saved[0]), set(saved[1])

    async def bury(self, worker: str, *, outside: bool = False) -> None:
        await self._server.reach()
        now = round(self._server.clock.time() * 1000)
        self.certified = {name: at for name, at in self.certified.items() if now - at <= _CERTIFICATE_TTL_MS}
        self.certified[worker] = now
        if outside:
            self.outside.add(worker)
        self._server.publish(CONTROL, f"{DEAD} {worker}".encode())
