"""The client of a worker: what its tasks submit, and its lifespan, goes through it. Connected at the first submit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.client.across import handed_over
from yadtq.client.client import Client
from yadtq.errors import ConfigError, YadtqError
from yadtq.runtime.service import Service, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskStatus as Started

    from yadtq.client.client import AnyTask
    from yadtq.handle import TaskHandle
    from yadtq.outside import Outside
    from yadtq.registry import Registry
    from yadtq.settings import Settings

__all__ = ["OwnClient"]

_CLOSE_S = 12.0


class OwnClient(Service):
    """A service, which keeps the connections apart from the tasks that ask for them.

    `task.SubmitsTasks`, from every thread and event loop of the process: sync tasks run in threads.
    """

    name = "submits"
    stage = Stage.RESOURCES  # like the lifespan, which may submit as well

    def __init__(self, outside: Outside, settings: Settings, registry: Registry) -> None:
        """outside: a store in it that others use too is a `borrowed` one."""
        self._given = outside, settings, registry
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._opening: asyncio.Future[Client] | None = None
        self._wanted = asyncio.Event()
        self._stopped = asyncio.Event()

    def is_usable_here(self) -> bool:
        return self._loop is not None and not self._stopped.is_set()

    def stop(self) -> None:
        self._stopped.set()
        self._wanted.set()

    async def drained(self) -> None:
        """Submits in progress have ended."""
        if self._client is not None:
            await self._client.close()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._loop = asyncio.get_running_loop()
        task_status.started()
        try:
            while not self._stopped.is_set():
                await self._wanted.wait()
                self._wanted.clear()
                if self._opening is not None and not self._opening.done():
                    await self._open(self._opening)
        finally:
            if self._opening is not None and not self._opening.done():
                self._opening.set_exception(_ending())
                self._opening.exception()  # retrieved: nobody may wait for it any more
            if self._client is not None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
                    await self._client.close()

    async def _open(self, opening: asyncio.Future[Client]) -> None:
        client = Client(*self._given)
        try:
            await client.start()
        except YadtqError as error:  # the next submit tries again
            opening.set_exception(error)
            opening.exception()
        else:
            self._client = client
            opening.set_result(client)

    async def submit_task(
        self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> TaskHandle[Any]:
        """Raises as `Client.submit`; also `BrokerUnavailable` and `StoreUnavailable` if it can't connect: nothing was
        sent.
        """
        loop = self._loop
        if loop is None or self._stopped.is_set():
            raise _ending()
        if loop is not asyncio.get_running_loop():
            return await handed_over(loop, lambda: self.submit_task(task, args, kwargs, options))
        client = self._client or await self._connected(loop)
        return await client.submit_task(task, args, kwargs, options)

    async def _connected(self, loop: asyncio.AbstractEventLoop) -> Client:
        if self._opening is None or (self._opening.done() and self._client is None):
            self._opening = loop.create_future()
            self._wanted.set()
        return await asyncio.shield(self._opening)


def _ending() -> ConfigError:
    return ConfigError("the worker is ending: its tasks can't submit any more")
