"""Which client a `task.submit` goes through: that of its own block, or else one of its own loop.

Not a stack: blocks may overlap, as those of web requests do, and the one that was opened first may be closed first.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from yadtq.errors import ConfigError

if TYPE_CHECKING:
    from yadtq.client.client import Client

__all__ = ["OpenClients"]

#: The blocks that the running code is in, of all apps, the innermost last. Asyncio tasks inherit those they are started
#: in.
_blocks: ContextVar[tuple[Client, ...]] = ContextVar("yadtq_blocks", default=())


class OpenClients:
    """Of one app."""

    def __init__(self, app: str) -> None:
        self._app = app
        #: In the order in which they were opened.
        self._open: list[Client] = []

    def enter(self, client: Client) -> None:
        """A block of `client` begins here."""
        self._open.append(client)
        _blocks.set((*_blocks.get(), client))

    def leave(self, client: Client) -> None:
        """The end of its block, which may come in another context than the beginning (a fixture)."""
        self._open.remove(client)
        _blocks.set(tuple(block for block in _blocks.get() if block is not client))

    def current(self) -> Client:
        """Raises `ConfigError` if there is none."""
        for client in (*reversed(_blocks.get()), *reversed(self._open)):
            # A task that outlives its block still has it in its context; a block may also belong to another app or
            # loop.
            if client in self._open and client.is_usable_here():
                return client
        raise ConfigError(
            f"app {self._app!r} has no connected client in this event loop: submit inside `async with app.client():`"
        )
