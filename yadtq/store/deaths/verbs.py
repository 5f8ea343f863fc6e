"""Death certificates: a worker process that has ended holds no lease any more, from this moment on (D5)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Deaths"]


class Deaths(Protocol):
    """Raises `StoreUnavailable` after a deadline; may be repeated."""

    async def bury(self, worker: str, *, outside: bool = False) -> None:
        """The leases of this worker process are void from now on; all workers of the app are told (`control`).

        outside: its end came from outside (an operator, a deploy, a server that is away), so that hardly one of its tasks
        can have caused it. Three such deaths make a task a suspect; one is enough otherwise.
        """
        ...
