"""The store of a process for a part of it that may not close it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from yadtq.store.verbs import Store

__all__ = ["borrowed"]


class _Borrowed:
    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def start(self) -> None:
        """Its owner has started it."""

    async def aclose(self) -> None:
        """Its owner closes it."""


def borrowed(store: Store) -> Store:
    """The same store, of which `start` and `aclose` do nothing."""
    return cast("Store", _Borrowed(store))
