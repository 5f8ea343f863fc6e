"""Death certificates: a worker process that has ended holds no lease any more, from this moment on (D5)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Deaths"]


class Deaths(Protocol):
    """Raises `StoreUnavailable` after a deadline; may be repeated."""

    async def bury(self, worker: str) -> None:
        """The leases of this worker process are void from now on; all workers of the app are told (`control`)."""
        ...
