"""The seam between an attempt and how its function is called: in the loop, in a thread, in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from yadtq.execution.attempt import Attempt

__all__ = ["Runner"]


class Runner(Protocol):
    """One way to call a task's function.

    The attempt is stopped by cancelling the asyncio task that awaits `call`: the runner then leaves the function or ends it.
    """

    def call(
        self, attempt: Attempt, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any]:
        """What the function returns. `attempt.timeout_s` runs from the moment when the function really begins."""
        ...

    def left_behind(self) -> Collection[Attempt]:
        """Attempts that have ended though their function has not: it can't be stopped."""
        ...
