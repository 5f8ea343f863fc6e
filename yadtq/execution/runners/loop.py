"""Async functions, in the worker's own event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.limits import Limits

__all__ = ["LoopRunner"]


class LoopRunner:
    """`runner.Runner`. Adds no coroutine around the task's own: a no-op would cost a tenth more."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def call(
        self, attempt: Attempt, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any]:
        if attempt.timeout_s is not None:
            self._limits.start(attempt, attempt.timeout_s)
        return function(*args, **kwargs)  # type: ignore[no-any-return]

    def left_behind(self) -> Collection[Attempt]:
        return ()  # a task that swallows its cancellation is still running, so the executor knows about it
