"""The seam to Redis. Each folder holds one family of verbs; `Store` combines them and adds what belongs to none.

Internal: not a plug-in interface, and it may change in any release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yadtq.runtime.service import Service
    from yadtq.store.deaths.verbs import Deaths
    from yadtq.store.tasks.verbs import Snapshot, Tasks

__all__ = ["DataSet", "News", "Store"]

News = tuple[str, "Snapshot"]
"""(task id, how it ended). A large payload is only named in it: see `Tasks.fetch_large`."""


class DataSet(NamedTuple):
    """name: another one means that data were lost, all of them or the latest. age_s: since Redis gave it this name."""

    name: str
    age_s: float = 0.0


class Store(Protocol):
    """Redis, for one app."""

    @property
    def tasks(self) -> Tasks: ...

    @property
    def deaths(self) -> Deaths: ...

    async def start(self) -> None:
        """Reach the server and check the rights that will be needed. Reads no data.

        Raises `StoreUnavailable` after `connect_timeout_s`, and `StoreRefused` for what waiting does not fix.
        """
        ...

    async def aclose(self) -> None: ...

    async def data_set(self) -> DataSet:
        """What Redis holds now. If the name has changed, data were lost: all of them, or the latest.

        The latter if Redis went back in time (a snapshot, a replica that lagged). A caller that has asked before
        detects this, so long-lived processes ask every few seconds. Raises `StoreUnavailable`.
        """
        ...

    def hear_control(self, on_message: Callable[[bytes], None], on_gap: Callable[[], None]) -> Service:
        """A service that delivers messages to all workers of the app: see `runtime/signals.py`.

        on_gap: messages may have been missed; called after each (re)subscription. Neither may wait.
        """
        ...

    def hear_ends(self, channel: str, on_news: Callable[[Sequence[News]], None], on_gap: Callable[[], None]) -> Service:
        """A service that delivers the final states of tasks for which `Tasks.wait` has registered `channel`."""
        ...
