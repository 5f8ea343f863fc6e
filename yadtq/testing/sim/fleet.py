"""Workers in slots, and what a supervisor does for them: certificates, successors under the same name."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from yadtq.errors import StoreUnavailable
from yadtq.testing.sim.adapt import Process, at_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yadtq.testing.sim.adapt import Site
    from yadtq.testing.sim.node import Node

__all__ = ["Fleet"]


class Fleet:
    """slot n is filled by workers `w<n>.<serial>`."""

    def __init__(self, site: Site, size: int) -> None:
        self._site = site
        self._world = site.world
        self.size = size
        self.alive: dict[int, Process] = {}
        self.exits: Counter[str] = Counter()
        self._serial = 0
        self._slot_of: dict[str, int] = {}
        self._deaths: asyncio.Queue[str] = asyncio.Queue()
        self._boss = self._world.node("boss", self._bury_all)
        self._world.on_kill.append(self._killed)

    def immortal(self, *names: str) -> None:
        """Processes that a sweep spares: nobody starts them again."""
        self._world.spared.update(names)

    def start_all(self) -> None:
        for slot in range(self.size):
            self.start(slot)

    def start(self, slot: int) -> None:
        if slot in self.alive:
            return
        self._serial += 1
        name = f"w{slot}.{self._serial}"
        self._slot_of[name] = slot
        self.alive[slot] = Process(self._site, name, f"slot-{slot}", self._ended)

    async def _bury_all(self, node: Node) -> None:
        """One after the other would let one that can't be written hold up the rest."""
        store = self._site.outside(node).store

        async def bury(worker: str) -> None:
            while True:
                try:
                    await store.deaths.bury(worker)
                    return
                except StoreUnavailable:
                    await asyncio.sleep(0.3)

        duties = set()
        while True:
            duty = asyncio.get_running_loop().create_task(bury(await self._deaths.get()))
            duties.add(duty)
            duty.add_done_callback(duties.discard)

    def _killed(self, node: Node) -> None:
        self._gone(node.name, 0.02 + 0.3 * self._world.rng.random())

    def _ended(self, node: Node, error: BaseException | None) -> None:
        self.exits[type(error).__name__ if error is not None else "drained"] += 1
        if error is not None:
            self._world.note(node.name, "failed", str(error)[:200])
        self._gone(node.name, 0.1)

    def _gone(self, name: str, after_s: float) -> None:
        slot = self._slot_of.get(name)
        if slot is None:
            return
        self.alive.pop(slot, None)
        self._world.call_later(after_s * 0.5, lambda: self._deaths.put_nowait(name))
        self._world.call_later(after_s + self._world.rng.random(), lambda: self.start(slot))

    def drain(self, slot: int) -> None:
        if (process := self.alive.get(slot)) is not None:
            process.drain()

    def problems_at_rest(self) -> Iterator[str]:
        for process in self.alive.values():
            for problem in at_rest(process.worker):
                yield f"{process.node.name} at rest: {problem}"
