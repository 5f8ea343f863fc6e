"""Concurrency slots: how many attempts may start. The conservation law: free + reserved + running = total."""

from __future__ import annotations

import asyncio

__all__ = ["Slots"]


class Slots:
    """Not fair, and never waits: a caller takes free slots, or is notified when some are given back."""

    def __init__(self, total: int) -> None:
        self.total = total
        #: Neither promised to a claim on its way nor taken by a running attempt.
        self.free = total
        self.reserved = 0
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def reserve(self, count: int) -> None:
        """For claims that are about to be sent. count: at most `free`."""
        assert 0 <= count <= self.free
        self.free -= count
        self.reserved += count
        if self.free < self.total:
            self._idle.clear()

    def give_back(self, count: int) -> None:
        """Reserved slots that are not needed."""
        assert 0 <= count <= self.reserved
        self.reserved -= count
        self.free += count
        self._note_idle()

    def start(self, count: int) -> None:
        """Reserved slots are taken by attempts."""
        assert 0 <= count <= self.reserved
        self.reserved -= count
        self.running += count

    def leave(self) -> None:
        """The attempt has ended."""
        assert self.running > 0
        self.running -= 1
        self.free += 1
        if self.free == self.total:
            self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Nothing runs, and no claim is on its way."""
        return self.free == self.total

    async def idle(self) -> None:
        """Returns when it is."""
        await self._idle.wait()

    def _note_idle(self) -> None:
        if self.free == self.total:
            self._idle.set()
