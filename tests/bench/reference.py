"""`check`: ratios to the raw floor, measured now, against those in reference.json.

Ratios, since the absolute numbers of two machines, or of two hours on a shared one, can't be compared: what slows the
machine slows the floor as well. Sizes (bytes, MB) are compared as they are. A scenario that fails is measured again, up
to twice, and its best counts: noise passes, a regression stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.bench.measure import Measure

PATH = Path(__file__).with_name("reference.json")
SCENARIOS = ("A", "B1", "B2", "C", "F")
TOLERANCE = 0.20
_SIZES = ("bytes", "MB")


def comparable(measure: Measure) -> float | None:
    """What of a measure holds on another machine: its ratio, or its size."""
    if not measure.steady:
        return None
    if measure.ratio is not None:
        return measure.ratio
    return measure.median if measure.unit in _SIZES else None


def read() -> dict[str, float]:
    return {key: float(value) for key, value in json.loads(PATH.read_text()).items()} if PATH.exists() else {}


def write(measures: Iterable[Measure]) -> None:
    """Put these in, keep the others."""
    values = read()
    for measure in measures:
        value = comparable(measure)
        if value is not None:
            values[measure.key] = round(value, 3)
    PATH.write_text(json.dumps(dict(sorted(values.items())), indent=1) + "\n")


def worse_by(measure: Measure, reference: Mapping[str, float]) -> float | None:
    """Share by which it is worse than the reference (negative: better); None if there is nothing to compare."""
    value, before = comparable(measure), reference.get(measure.key)
    if value is None or before is None:
        return None
    return 1 - value / before if measure.better == "higher" else value / before - 1


def failing(measures: Iterable[Measure], reference: Mapping[str, float]) -> list[Measure]:
    return [m for m in measures if (share := worse_by(m, reference)) is not None and share > TOLERANCE]
