"""One simulated worker process: the real `Worker`, without the parts that need threads and pipes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import anyio

from yadtq.runtime.service import Service
from yadtq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskStatus as Started

    from yadtq.app import Yadtq
    from yadtq.outside import Outside
    from yadtq.settings import WorkerSettings
    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["Process", "Site", "at_rest", "balance"]


class Site(Protocol):
    """What processes are started in."""

    world: World
    app: Yadtq
    options: WorkerSettings

    def outside(self, node: Node) -> Outside: ...

    def skew(self) -> float: ...


class _Idle(Service):
    """In the watchdog's place: its thread watches a loop that is never blocked here."""

    name = "watchdog"

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self._stopped.wait()


class Process:
    """worker: None until the process has begun."""

    def __init__(self, site: Site, name: str, slot: str, on_end: Callable[[Node, BaseException | None], None]) -> None:
        self._site = site
        self._slot = slot
        self.worker: Worker | None = None
        self._asked = False
        self.node = site.world.node(name, self._main, on_end=on_end, skew_s=site.skew())

    async def _main(self, node: Node) -> None:
        site = self._site
        self.worker = Worker(site.app, site.options, slot=self._slot, worker_id=node.name, outside=site.outside(node))
        self.worker._watchdog = _Idle()  # type: ignore[assignment]
        if self._asked:
            self.worker.drain()
        await self.worker.run()

    def drain(self) -> None:
        """SIGTERM; only once: a second one breaks tasks off."""
        if not self._asked and self.node.alive:
            self._asked = True
            self._site.world.note(self.node.name, "asked to end")
            if self.worker is not None:
                self.node.inside(self.worker.drain)


def balance(worker: Worker | None) -> Iterator[str]:
    """What must hold at every moment between two steps."""
    if worker is None:
        return
    executor = worker.executor
    if not 0 <= executor.free <= executor.concurrency:
        yield f"{executor.free} of {executor.concurrency} slots are free"
    if len(executor.running) > executor.concurrency - executor.free:
        yield f"{len(executor.running)} tasks run in {executor.concurrency - executor.free} slots"
    if sum(delivery.crashes >= 2 for delivery in executor.running.values()) > 1:
        yield "two suspects run at once"


def at_rest(worker: Worker | None) -> Iterator[str]:
    """What must hold when everything has ended."""
    if worker is None:
        yield "not started"
        return
    executor = worker.executor
    if executor.running or executor.free != executor.concurrency:
        yield f"{executor.free} of {executor.concurrency} slots are free, {len(executor.running)} tasks run"
    if held := worker.fetcher.in_flight():
        yield f"{len(held)} deliveries are held: {held[0]!r}"
    if worker.intake._doubles:
        yield f"{len(worker.intake._doubles)} doubles wait"
