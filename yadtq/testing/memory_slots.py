"""Worker slots of a host in memory: what a supervisor's lock folder is on a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.errors import ConfigError
from yadtq.supervisor.seams import Slot

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["MemoryLockFolder", "MemorySlots"]


class MemoryLockFolder:
    """Which slot numbers are locked. Supervisors that share a folder take disjoint numbers."""

    def __init__(self) -> None:
        self.locked: set[int] = set()


class MemorySlots:
    """`seams.Slots` of one app on one host."""

    def __init__(self, app: str, host: str, folder: MemoryLockFolder, *, most: int = 10_000) -> None:
        self.prefix = f"{host}.{app}.slot-"
        self._folder, self._most = folder, most
        self._held: dict[int, Slot] = {}

    def take(self, avoid: Collection[str] = ()) -> Slot:
        for number in range(self._most):
            name = f"{self.prefix}{number}"
            if number not in self._folder.locked and name not in avoid:
                self._folder.locked.add(number)
                slot = self._held[number] = Slot(number, name)
                return slot
        raise ConfigError(f"all {self._most} slots are taken")

    def release(self, slot: Slot) -> None:
        if self._held.pop(slot.number, None) is not None:
            self._folder.locked.discard(slot.number)

    def release_all(self) -> None:
        for slot in list(self._held.values()):
            self.release(slot)

    def refresh(self) -> Sequence[Slot]:
        return ()
