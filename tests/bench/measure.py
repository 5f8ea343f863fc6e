"""One number of the report: its samples, those of the raw floor taken beside them, and what it should be."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass
class Measure:
    """floor: samples of the bare thing, taken in turns with `samples`, so that noise meets both.

    better: which way is up. ratio_target, target: what it should be; None where nothing is set. steady: good enough to
    be compared with an earlier run; a 99th percentile, for one, is not.
    """

    scenario: str
    what: str
    unit: str
    samples: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    better: Literal["higher", "lower"] = "higher"
    target: float | None = None
    ratio_target: float | None = None
    stack: str = ""
    steady: bool = True

    @property
    def key(self) -> str:
        return f"{self.stack}/{self.scenario}/{self.what}"

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def floor_median(self) -> float | None:
        return statistics.median(self.floor) if self.floor else None

    @property
    def ratio(self) -> float | None:
        """Of the pairs measured side by side, the median one: less noisy than the ratio of the medians."""
        if not self.floor:
            return None
        return statistics.median(sample / floor for sample, floor in zip(self.samples, self.floor, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether both targets are met; None if there is none."""
        verdicts = []
        for value, target in ((self.median, self.target), (self.ratio, self.ratio_target)):
            if target is not None and value is not None:
                verdicts.append(value >= target if self.better == "higher" else value <= target)
        return all(verdicts) if verdicts else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "floor_median": self.floor_median, "ratio": self.ratio}
