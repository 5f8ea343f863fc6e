"""Hosts: each with its workers under their real supervisor, and with what starts that again when it has died."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from yadtq.errors import YadtqError
from yadtq.settings import SupervisorSettings
from yadtq.supervisor.assembly import assemble, connected
from yadtq.supervisor.supervisor import Intent, Supervisor
from yadtq.testing.memory_slots import MemoryLockFolder, MemorySlots
from yadtq.testing.sim.process import SimProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yadtq.supervisor.seams import Beat, Order
    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.process import Site

__all__ = ["Fleet", "Host"]

#: What a process start costs: Python's imports.
_SPAWN_S = 0.3


class Host:
    """processes: all that live, by worker id. Those of a dead supervisor live on until they have drained."""

    def __init__(self, site: Site, name: str, size: int, *, grace_s: float) -> None:
        self.name = name
        self._site = site
        self._world = site.world
        self.size = size
        self.processes: dict[str, SimProcess] = {}
        self.exits: Counter[int] = Counter()
        #: When a worker has ended.
        self.changes: list[float] = []
        self.bosses = 0
        self.supervisor: Supervisor | None = None
        self._own = SupervisorSettings.load(workers=size, grace_s=grace_s + 5.0, crash_budget=1_000, backoff_cap_s=2.0)
        self._folder = MemoryLockFolder()
        self.boss: Node | None = None
        self._world.on_kill.append(self._killed)

    def start(self) -> None:
        """The supervisor, and it starts the workers."""
        self.bosses += 1
        self.boss = self._world.node(f"{self.name}.boss{self.bosses}", self._supervise, on_end=self._boss_ended)

    async def _supervise(self, node: Node) -> None:
        outside = self._site.outside(node)
        slots = MemorySlots(self._site.app.name, self.name, self._folder)

        async def spawn(order: Order, on_beat: Callable[[Beat], None]) -> SimProcess:
            process = SimProcess(self._site, node, order, on_beat=on_beat, on_end=self._process_ended)
            self.processes[process.worker] = process
            return process

        made = assemble(self._site.settings, self._own, outside, spawn=spawn, slots=slots)
        async with connected(outside, made.producer, {"default"}):
            self.supervisor = made.supervisor
            await made.supervisor.run()

    def _boss_ended(self, node: Node, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, YadtqError):
            self._world.fail(f"{node.name} failed: {type(error).__name__}: {error}")
        self._boss_gone()

    def _killed(self, node: Node) -> None:
        if (process := self.processes.get(node.name)) is not None:
            process.killed()
        elif node is self.boss:
            self._boss_gone()

    def _boss_gone(self) -> None:
        """Its workers notice that their pipe is closed; its slots are free as soon as they have ended."""
        self.supervisor = None
        for process in list(self.processes.values()):
            process.orphan()
        self._folder.locked.intersection_update({process.slot.number for process in self.processes.values()})
        self._world.call_later(0.5 + self._world.rng.random(), self.start)

    def _process_ended(self, process: SimProcess) -> None:
        self.processes.pop(process.worker, None)
        assert process.code is not None
        self.exits[process.code] += 1
        self.changes.append(self._world.now)
        self._world.note(process.worker, "exit", str(process.code))
        if self.supervisor is None or process.worker not in self.supervisor.workers.values():
            self._folder.locked.discard(process.slot.number)

    def restart(self) -> None:
        """A deploy: one worker after another is drained and started again."""
        if self.supervisor is not None and self.boss is not None:
            self.boss.inside(partial(self.supervisor.ask, Intent.RESTART))

    def problems_at_rest(self) -> Iterator[str]:
        if len(self.processes) != self.size:
            yield f"{self.name}: {len(self.processes)} workers live, {self.size} are wanted (exits: {dict(self.exits)})"
        for process in self.processes.values():
            for problem in process.problems_at_rest():
                yield f"{process.worker} at rest: {problem}"


class Fleet:
    """All hosts. size: of workers, dealt out to `hosts`."""

    def __init__(self, site: Site, size: int, *, hosts: int, grace_s: float) -> None:
        sizes = [size // hosts + (number < size % hosts) for number in range(hosts)]
        self.hosts = [Host(site, f"h{number}", share, grace_s=grace_s) for number, share in enumerate(sizes)]

    def start(self) -> None:
        """The supervisors, and they start the workers."""
        for host in self.hosts:
            host.start()

    def alive(self) -> list[SimProcess]:
        """Host by host, in the order of their starts."""
        return [process for host in self.hosts for process in host.processes.values()]

    @property
    def changes(self) -> list[float]:
        """When a worker has ended."""
        return [at for host in self.hosts for at in host.changes]

    def problems(self) -> Iterator[str]:
        """Of the conservation laws, between any two steps."""
        for process in self.alive():
            for problem in process.problems():
                yield f"{process.worker}: {problem}"

    def problems_at_rest(self) -> Iterator[str]:
        for host in self.hosts:
            yield from host.problems_at_rest()
