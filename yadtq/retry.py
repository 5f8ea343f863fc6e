"""When a failed attempt is tried again, and after how long: a pure decision.

Back-off is exponential with "equal jitter" (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015):
half of it is sure, half is random, so that tasks which failed together are not retried together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from yadtq.errors import Discard, Retry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RetryPolicy", "asks"]


#: Retries of a task that raises `Retry` and has no number of its own: bounded, like everything.
_ASKED_RETRIES = 100


#: As Python's own code reads it: a subclass may hide it.
_members: Any = BaseExceptionGroup.__dict__["exceptions"].__get__


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, as a task group raises them, or the exception itself."""
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if _is(each, BaseExceptionGroup):
            waiting += reversed(_members(each))
        else:
            yield each


def _is(error: BaseException, *kinds: type[BaseException]) -> bool:
    # Not `isinstance`: it reads `__class__`, which may be a property of the task's, and raise.
    return issubclass(type(error), kinds)


def asks(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether it is of one of these kinds, or a group with one of them in it."""
    return any(_is(each, *kinds) for each in _leaves(error))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """retries: attempts after the first; base_s, cap_s: the back-off before retry n is at most min(cap, base·2ⁿ⁻¹)."""

    retries: int = 0
    base_s: float = 1.0
    cap_s: float = 300.0

    def delay(self, failures: int, error: BaseException, jitter: float) -> float | None:
        """Seconds until the next attempt, or None: give up.

        failures: failed attempts so far, this one included (attempts that ended with their process don't count).
        jitter: a random number in [0, 1). Raises `ConfigError` for a `Retry` whose delay is no number of seconds.
        """
        errors = list(_leaves(error))
        asked = next((each for each in errors if _is(each, Retry)), None)
        most = _ASKED_RETRIES if asked is not None and self.retries == 0 else self.retries
        if failures > most or any(_is(each, Discard) for each in errors):
            return None
        # A subclass may not have called `Retry.__init__`, or may have set the delay itself.
        if (delay := getattr(asked, "delay", None)) is not None:
            return Retry.checked(delay)
        # 2**1000 would overflow a float; after 60 doublings the cap applies.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 60))
        return ceiling * (0.5 + jitter / 2)

    def with_retries(self, retries: int) -> RetryPolicy:
        """The same back-off with another number of retries."""
        return replace(self, retries=retries)
