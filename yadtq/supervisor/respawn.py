"""When a dead worker gets its successor, and when its slot is given up. Pure: times in, decisions out.

After a crash without a recent one before, the successor starts at once, because most deaths are accidents. After
repeated crashes it waits longer each time, because the cause is probably still there. Too many crashes in a window end
the slot. A cause outside the slot (Kafka is away) delays the successor in the same way, but never ends the slot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.settings import SupervisorSettings

__all__ = ["CrashHistory", "GiveUp", "Respawn", "RespawnPolicy"]


@dataclass(frozen=True, slots=True)
class Respawn:
    """Start the successor after this many seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The budget is spent: start no successor."""

    crashes: int
    window_s: float


class CrashHistory:
    """The recent crashes of one slot."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._crashes: deque[tuple[float, bool]] = deque()

    def record(self, at: float, *, charged: bool = True) -> None:
        """charged: counts against the budget as well as for the back-off."""
        self._crashes.append((at, charged))

    def recent(self, now: float) -> list[tuple[float, bool]]:
        """(time, charged) of each crash within the window, oldest first."""
        while self._crashes and self._crashes[0][0] < now - self._window_s:
            self._crashes.popleft()
        return list(self._crashes)

    def clear(self) -> None:
        self._crashes.clear()


class RespawnPolicy:
    """backoff_s doubles with every further crash of a series, up to backoff_cap_s, and is spread over its upper half.

    calm_s: a worker that has lived this long ends the series. Spread, because one cause often kills all workers at the
    same time. chance: a number from 0 to 1.
    """

    def __init__(
        self,
        *,
        backoff_s: float,
        backoff_cap_s: float,
        budget: int,
        window_s: float,
        calm_s: float = 5.0,
        chance: Callable[[], float],
    ) -> None:
        self.backoff_s, self.backoff_cap_s = backoff_s, backoff_cap_s
        self.budget, self.window_s, self.calm_s = budget, window_s, calm_s
        self._chance = chance

    @classmethod
    def from_settings(cls, settings: SupervisorSettings, *, chance: Callable[[], float]) -> RespawnPolicy:
        return cls(
            backoff_s=settings.backoff_s,
            backoff_cap_s=settings.backoff_cap_s,
            budget=settings.crash_budget,
            window_s=settings.crash_window_s,
            chance=chance,
        )

    def history(self) -> CrashHistory:
        return CrashHistory(self.window_s)

    def decide(self, history: CrashHistory, now: float) -> Respawn | GiveUp:
        """For a slot whose latest crash has just been recorded."""
        crashes = history.recent(now)
        charged = sum(charge for _at, charge in crashes)
        if charged >= self.budget:
            return GiveUp(charged, self.window_s)
        series = self._series([at for at, _charge in crashes])
        return Respawn(self._longest_s(series) * (0.5 + self._chance() / 2))

    def _series(self, crashes: list[float]) -> int:
        """How many of the latest crashes form one series."""
        series = 1
        for before, after in pairwise(crashes):
            # The successor was started after the back-off, and lived for the rest of the time.
            series = series + 1 if after - before < self._longest_s(series) + self.calm_s else 1
        return series

    def _longest_s(self, series: int) -> float:
        if series <= 1:
            return 0.0
        # The exponent is bounded too: 2.0 ** 2000 is an error, not infinity.
        return min(self.backoff_cap_s, self.backoff_s * 2.0 ** min(series - 2, 60))
