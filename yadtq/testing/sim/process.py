"""One simulated worker process, as its supervisor sees it: started with an order, heard over a pipe, signalled, ended."""

from __future__ import annotations

import json
import signal
from functools import partial
from typing import TYPE_CHECKING, Protocol

from yadtq.delivery.checked import CheckedDelivery
from yadtq.errors import BrokerUnavailable, StoreUnavailable
from yadtq.execution.quarantine.quarantine import Quarantine
from yadtq.supervisor.seams import Beat
from yadtq.testing.sim.threads import SimThreads
from yadtq.testing.sim.ward import SimWard
from yadtq.wire.exits import DRAINED, FAILED, UNREACHABLE
from yadtq.worker.assembly import Given
from yadtq.worker.heartbeat import Identity
from yadtq.worker.machine import Machine
from yadtq.worker.parent import Parent
from yadtq.worker.worker import Worker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from yadtq.app import Yadtq
    from yadtq.outside import Outside
    from yadtq.settings import Settings, WorkerSettings
    from yadtq.supervisor.seams import Order
    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["SimProcess", "Site"]

_PIPE_S = 0.001


class Site(Protocol):
    """What processes are started in."""

    world: World
    app: Yadtq
    settings: Settings
    options: WorkerSettings

    def outside(self, node: Node) -> Outside: ...

    def skew(self) -> float: ...

    def app_in(self, slot: int) -> Yadtq: ...


class _SimParent(Parent):
    """The worker's end of the pipe."""

    def __init__(self, process: SimProcess) -> None:
        super().__init__(None)
        self._process = process

    def tell(self, line: str) -> None:
        self._process.said(line)

    def gone(self) -> None:
        if not self.orphaned:
            self.orphaned = True
            self.on_gone()


class SimProcess:
    """`supervisor.seams.Process`. on_end: called with it when it has ended, for any starter."""

    out_of_memory = False

    def __init__(
        self,
        site: Site,
        boss: Node,
        order: Order,
        *,
        on_beat: Callable[[Beat], None],
        on_end: Callable[[SimProcess], None],
    ) -> None:
        self.worker = order.worker
        self._order = order
        self.slot = order.slot
        self.pid = 0
        self.code: int | None = None
        self.real: Worker | None = None
        self._site = site
        self._boss = boss
        self._on_beat = on_beat
        self._on_end = on_end
        self._signals = 0
        self._waiter: asyncio.Future[int] | None = None
        self._parent: _SimParent | None = None
        self.node = site.world.node(order.worker, self._main, on_end=self._over, skew_s=site.skew())

    # Inside

    async def _main(self, node: Node) -> None:
        site = self._site
        outside, app = site.outside(node), site.app_in(self.slot.number)
        self.pid = outside.place.pid
        self._parent = parent = _SimParent(self)
        quarantine = Quarantine(
            make=lambda size: SimWard(site.world, node, app, site.outside, size=size), clock=node.clock
        )
        self.real = Worker(
            Given(
                app=app,
                identity=self._identity(),
                options=site.options,
                outside=outside,
                machine=Machine(
                    parent=parent,
                    services=(quarantine,),
                    suspects=quarantine,
                    threads=SimThreads,
                    rss_bytes=lambda: 0,
                ),
                delivery=CheckedDelivery,
            )
        )
        for _ in range(self._signals):
            self.real.drain()
        if not self._boss.alive:
            parent.gone()
        await self.real.run()

    def _identity(self) -> Identity:
        order, options = self._order, self._site.options
        return Identity(self.worker, order.slot.id, options.queues, options.concurrency, order.supervisor, order.secret)

    def said(self, line: str) -> None:
        """Through the pipe to the supervisor."""
        boss = self._boss
        if boss.alive:
            beat = Beat(**json.loads(line))
            self._site.world.call_later(_PIPE_S, partial(boss.loop.call_soon, self._on_beat, beat))

    # Outside

    def orphan(self) -> None:
        """The supervisor's end of the pipe is closed."""
        if self._parent is not None and self.node.alive:
            self.node.loop.call_soon(self._parent.gone)

    def signal(self, signum: int) -> None:
        if self.code is not None:
            return
        if signum == signal.SIGKILL:
            self.kill()
            return
        self._signals += 1
        self._site.world.note(self.worker, "signal", str(self._signals))
        if self._signals > 2:
            self._end(FAILED)
            self._site.world.kill(self.node)
        elif self.real is not None:
            self.node.loop.call_soon(self.real.drain)

    def kill(self) -> None:
        self._site.world.kill(self.node)

    def killed(self) -> None:
        """Told by the world."""
        self._end(-signal.SIGKILL)

    def _over(self, node: Node, error: BaseException | None) -> None:
        if error is None:
            code = DRAINED
        elif isinstance(error, BrokerUnavailable | StoreUnavailable):
            code = UNREACHABLE
        else:
            code = FAILED
            self._site.world.fail(f"{self.worker} failed: {type(error).__name__}: {error}")
        self._end(code)

    def _end(self, code: int) -> None:
        if self.code is None:
            self.code = code
            if self._waiter is not None and not self._waiter.done() and self._boss.alive:
                self._waiter.set_result(code)
            self._on_end(self)

    async def ended(self) -> int:
        if self.code is None:
            self._waiter = self._boss.loop.create_future()
            return await self._waiter
        return self.code

    # For the judge

    def problems(self) -> list[str]:
        """Of the conservation laws, between any two steps."""
        return self.real.parts.audit() if self.real is not None and self.node.alive else []

    def problems_at_rest(self) -> Iterator[str]:
        """When everything has ended, nothing is held."""
        if self.real is None:
            yield "not started"
            return
        parts = self.real.parts
        slots = parts.executor.slots
        if slots.free != slots.total:
            yield f"{slots.free} of {slots.total} slots are free, {slots.running} run, {slots.reserved} are reserved"
        if held := list(parts.partitions.in_flight()):
            yield f"{len(held)} deliveries are held, one {held[0].place.value}: {held[0]!r}"
        if parts.room.parked:
            yield f"{parts.room.parked} deliveries wait"
