"""Death certificates: a worker process that has ended holds no lease any more, from this moment on (D5)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Deaths"]


class Deaths(Protocol):
    """Raises `StoreUnavailable` after a deadline; may be repeated."""

    async def bury(self, worker: str, *, outside: bool = False) -> None:
        """Void the leases of this worker process from now on, and tell all workers of the app (`control`).

        outside: it was ended from outside (an operator, a deploy, a server that is away), so it is unlikely that one of
        its tasks caused it. Three such deaths make a task a suspect; one is enough otherwise.
        """
        ...
