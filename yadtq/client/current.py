"""Which client a `task.submit` goes through: that of its own block or worker, or else one of its own loop.

Not a stack: blocks may overlap, as those of web requests do, and the one that was opened first may be closed first.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from yadtq.errors import ConfigError
from yadtq.task import SubmitsTasks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OpenClients"]


class _Usable(SubmitsTasks, Protocol):
    def is_usable_here(self) -> bool:
        """Whether it is connected, and can be used in the running event loop."""
        ...


#: The blocks that the running code is in, of all apps, the innermost last. Asyncio tasks inherit those they are started
#: in. A worker is a block, too: its tasks and its lifespan are in it.
_blocks: ContextVar[tuple[_Usable, ...]] = ContextVar("yadtq_blocks", default=())


class OpenClients:
    """Of one app."""

    def __init__(self, app: str) -> None:
        self._app = app
        #: In the order in which they were opened.
        self._open: list[_Usable] = []
        #: Those of workers in this process.
        self._own: list[_Usable] = []

    def enter(self, client: _Usable) -> None:
        """A block of `client` begins here."""
        self._open.append(client)
        _blocks.set((*_blocks.get(), client))

    def leave(self, client: _Usable) -> None:
        """The end of its block, which may come in another context than the beginning (a fixture)."""
        self._open.remove(client)
        _leave_block(client)

    @contextmanager
    def working(self, own: _Usable) -> Iterator[None]:
        """Around all that a worker does. own: its client."""
        self._own.append(own)
        _blocks.set((*_blocks.get(), own))
        try:
            yield
        finally:
            self._own.remove(own)
            _leave_block(own)

    def current(self) -> SubmitsTasks:
        """Raises `ConfigError` if there is none."""
        # Own ones last: code in a thread that a task has started itself is in no block.
        for client in (*reversed(_blocks.get()), *reversed(self._open), *reversed(self._own)):
            # A task that outlives its block still has it in its context; a block may also belong to another app or
            # loop.
            if (client in self._open or client in self._own) and client.is_usable_here():
                return client
        raise ConfigError(
            f"app {self._app!r} has no connected client in this event loop: submit inside `async with app.client():`"
        )


def _leave_block(client: _Usable) -> None:
    _blocks.set(tuple(block for block in _blocks.get() if block is not client))
