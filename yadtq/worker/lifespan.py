"""What the tasks of a process share: opened before the first claim, closed after the last outcome.

The context manager is the user's code. It is entered and left in one asyncio task, in which nothing else happens: it
may hold task groups and time limits of its own.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.errors import ConfigError, LifespanFailed, YadtqError
from yadtq.execution.raised import message_of, type_name
from yadtq.runtime.service import Service, Stage
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskStatus as Started

    from yadtq.app import Yadtq
    from yadtq.execution.calls import Calls

__all__ = ["Lifespan", "lifespan_of"]

log = logging.getLogger("yadtq.worker")

#: For one that does not end when it is cancelled, or when the worker ends without a drain.
_END_S = 5.0


class Lifespan(Service):
    """A service, ready when `opened` is: then no task has run yet. on_state: gets what the context manager yields."""

    name = "lifespan"
    stage = Stage.RESOURCES

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        app: str,
        within_s: float,
        on_state: Callable[[Any], None],
    ) -> None:
        """within_s: for opening."""
        self._make = make
        self._app = app
        self._within_s = within_s
        self._on_state = on_state
        self._opened = asyncio.Event()
        self._close = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._closed = asyncio.Event()
        self._holding: asyncio.Task[None] | None = None

    def stop(self) -> None:
        self._close.set()

    def give_up(self) -> None:
        """Open no more: the worker is to end before it has begun."""
        self._unwanted.set()

    async def drained(self) -> None:
        """Closed."""
        self._close.set()
        if self._holding is not None:
            await self._closed.wait()

    def hurry(self) -> None:
        if self._holding is not None:
            self._holding.cancel()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._holding = holding = asyncio.get_running_loop().create_task(self._hold(), name="yadtq-lifespan")
        try:
            await self._until_opened(holding)
            task_status.started()
            await asyncio.wait([holding])
            self._look_at_the_end(holding)
        finally:
            self._close.set()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([holding], timeout=_END_S)
                holding.cancel()
                await asyncio.wait([holding], timeout=_END_S)
            self._closed.set()

    async def _hold(self) -> None:
        try:
            async with self._make() as state:
                self._on_state(state)
                self._opened.set()
                await self._close.wait()
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would let them out of the loop
            raise RuntimeError(f"the lifespan raised {error!r}") from error

    async def _until_opened(self, holding: asyncio.Task[None]) -> None:
        """Raises `LifespanFailed`, or a `YadtqError` of the lifespan's own. Returns early after `give_up`."""
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(event.wait()) for event in (self._opened, self._unwanted)]
        try:
            await asyncio.wait([holding, *waiting], timeout=self._within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if self._opened.is_set():
            return
        if self._unwanted.is_set() and not holding.done():
            holding.cancel()
        elif holding.done():
            raise self._failure(holding, opened=False)
        else:
            holding.cancel()
            raise LifespanFailed(self._app, f"not open within {self._within_s:g} s (lifespan_timeout_s)", opened=False)

    def _look_at_the_end(self, holding: asyncio.Task[None]) -> None:
        error = None if holding.cancelled() else holding.exception()
        if not self._close.is_set() and not self._unwanted.is_set():
            raise self._failure(holding, opened=True)
        if error is not None:
            log.error("the lifespan of app %r failed while it closed", self._app, exc_info=error)

    def _failure(self, holding: asyncio.Task[None], *, opened: bool) -> YadtqError:
        error = None if holding.cancelled() else holding.exception()
        if isinstance(error, YadtqError) and not opened:
            return error  # wrong settings, or a server that does not answer: as of the worker itself
        if error is None:
            return LifespanFailed(self._app, "it ended by itself", opened=opened)
        if _is_no_context_manager(error):
            return ConfigError(
                f"the lifespan of app {self._app!r} is no async context manager: decorate it with @asynccontextmanager"
            )
        failure = LifespanFailed(self._app, _reason(error), opened=opened)
        failure.__cause__ = error  # what runs the services logs both, with their frames
        return failure


def lifespan_of(app: Yadtq, within_s: float, calls: Calls) -> Lifespan | None:
    """That of one process, whose tasks get its state through `calls`. None: the app has none."""
    opens = app.lifespan
    if opens is None:
        return None

    def keep(state: Any) -> None:
        calls.state = state

    return Lifespan(lambda: opens(app), app=app.name, within_s=within_s, on_state=keep)


def _reason(error: BaseException) -> str:
    return shown(f"{type_name(error)}: {message_of(error)}".partition("\n")[0])


def _is_no_context_manager(error: BaseException) -> bool:
    """Whether `async with` itself has refused it."""
    text = "asynchronous context manager protocol"
    return isinstance(error, TypeError) and text in str(error) and (error.__traceback__ or error).tb_next is None  # type: ignore[union-attr]
