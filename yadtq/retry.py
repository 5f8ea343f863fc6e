"""When a failed attempt is tried again, and after how long: a pure decision.

Back-off is exponential with "equal jitter" (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015):
half of it is sure, half is random, so that neighbours which failed together do not come back together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from yadtq.errors import Discard, Retry

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """retries: attempts after the first; base_s, cap_s: the back-off before retry n is at most min(cap, base·2ⁿ⁻¹)."""

    retries: int = 0
    base_s: float = 1.0
    cap_s: float = 300.0

    def delay(self, failures: int, error: BaseException, jitter: float) -> float | None:
        """Seconds until the next attempt, or None: give up.

        failures: failed attempts so far, this one included (attempts that ended with their process don't count).
        jitter: a random number in [0, 1).
        """
        if isinstance(error, Discard) or failures > self.retries:
            return None
        if isinstance(error, Retry) and error.delay is not None:
            return max(0.0, error.delay)
        # 2**1000 would overflow a float; past 60 doublings the cap has long won.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 60))
        return ceiling * (0.5 + jitter / 2)

    def with_retries(self, retries: int) -> RetryPolicy:
        """The same back-off with another number of retries."""
        return replace(self, retries=retries)
