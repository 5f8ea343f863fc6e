"""A child process for suspects, simulated: a process of its own, whose death is told to the worker that has started it."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio

from yadtq.execution.quarantine.frames import frame, read_frame
from yadtq.execution.quarantine.ward import Ward
from yadtq.worker.child import Child

if TYPE_CHECKING:
    from yadtq.app import Yadtq
    from yadtq.outside import Outside
    from yadtq.testing.sim.loop import SimLoop
    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["SimWard"]

_PIPE_S = 0.001
_START_S = 0.3


class _SimChild(Child):
    """The child's end of the pipes."""

    def __init__(self, app: Yadtq, outside: Outside, worker_id: str, ward: SimWard) -> None:
        self._ward = ward
        given = SimpleNamespace(
            name=app.name, settings=app.settings, registry=app.registry, lifespan=app.lifespan, outside=lambda: outside
        )
        super().__init__(cast("Yadtq", given), worker_id, -1)

    def _say(self, data: bytes) -> None:
        self._ward.heard(data)

    async def live(self) -> None:
        async with anyio.create_task_group() as group:
            await self.open(group)
            self._say(frame({"op": "beat"}))
            await asyncio.Event().wait()

    def obey(self, order: dict[str, Any], body: bytes) -> None:
        self._obey(order, body)


class SimWard(Ward):
    """parent: the worker's process. outside: makes what the child is given."""

    def __init__(self, world: World, parent: Node, app: Yadtq, outside: Any, *, size: int) -> None:
        super().__init__(command=[], environ={}, size=size, clock=parent.clock)
        self._world = world
        self._parent = parent
        self._app = app
        self._outside = outside
        self._child: _SimChild | None = None
        self.node: Node | None = None

    async def _start(self) -> None:
        await asyncio.sleep(_START_S * self._world.rng.random())
        self._process = cast("asyncio.subprocess.Process", SimpleNamespace(returncode=None))
        world, parent = self._world, self._parent

        async def main(node: Node) -> None:
            self._child = _SimChild(self._app, self._outside(node), parent.name, self)
            await self._child.live()

        world.on_kill.append(self._killed)
        self.node = world.node(f"{parent.name}.child{len(world.nodes)}", main)

    def _say(self, data: bytes) -> None:
        order, body = _parse(data, self._parent.loop)

        def arrive() -> None:
            if self.node is not None and self.node.alive and self._child is not None:
                self.node.loop.call_soon(self._child.obey, order, body)

        self._world.call_later(_START_S if self._child is None else _PIPE_S, arrive)

    def heard(self, data: bytes) -> None:
        header, body = _parse(data, self._parent.loop)

        def arrive() -> None:
            if self._parent.alive:
                self._parent.loop.call_soon(self._hear, header, body)

        self._world.call_later(_PIPE_S, arrive)

    def _killed(self, node: Node) -> None:
        """The child's death is told to its parent; with its parent it only ends."""
        if node is self._parent and self.node is not None:
            self._world.kill(self.node)
        elif node is self.node and self._parent.alive:
            self._world.call_later(_PIPE_S, lambda: self._parent.loop.call_soon(self._over))

    def _over(self) -> None:
        if not self.ended:
            self.ended = True
            self._tell_end(-(self.node.killed_by if self.node is not None else signal.SIGKILL), "")

    def kill(self) -> None:
        if self.node is not None:
            self._world.kill(self.node)

    async def close(self) -> None:
        self.kill()
        self._over()


def _parse(data: bytes, loop: SimLoop) -> tuple[dict[str, Any], bytes]:
    """A frame that is all there."""
    reader = asyncio.StreamReader(loop=loop.as_asyncio)
    reader.feed_data(data)
    try:
        read_frame(reader).send(None)
    except StopIteration as end:
        return cast("tuple[dict[str, Any], bytes]", end.value)
    raise ValueError("half a frame")
