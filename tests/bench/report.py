"""The table, the JSON and the Markdown of a run."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.measure import Measure

HEAD = ("stack", "", "what", "median (min-max)", "unit", "floor", "ratio", "target", "")


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def middle(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def spread(samples: Sequence[float], median: float) -> str:
    if len(samples) == 1:
        return number(median)
    return f"{number(median)} ({number(min(samples))}-{number(max(samples))})"


def row(measure: Measure) -> tuple[str, ...]:
    sign = ">=" if measure.better == "higher" else "<="
    targets = [
        *([f"{sign} {number(measure.target)}"] if measure.target is not None else []),
        *([f"{sign} {measure.ratio_target:g} x floor"] if measure.ratio_target is not None else []),
    ]
    floor, ratio = measure.floor_median, measure.ratio
    return (
        measure.stack,
        measure.scenario,
        measure.what,
        spread(measure.samples, measure.median),
        measure.unit,
        "" if floor is None else number(floor),
        "" if ratio is None else f"{ratio:.2f}",
        ", ".join(targets),
        {None: "", True: "met", False: "MISSED"}[measure.met],
    )


def line(measure: Measure) -> str:
    """One measure as plain text, printed as soon as it is known."""
    stack, scenario, what, value, unit, floor, ratio, target, met = row(measure)
    beside = f"; floor {floor}, ratio {ratio}" if floor else ""
    aim = f"; {target}: {met}" if target else ""
    return f"{stack} {scenario} {what}: {value} {unit}{beside}{aim}"


def show(measures: Sequence[Measure], about: dict[str, str]) -> None:
    table = Table(*HEAD, box=None, pad_edge=False)
    for measure in measures:
        table.add_row(*row(measure))
    console = Console(width=150)
    for name, text in about.items():
        console.print(f"{name}: {text}", highlight=False)
    console.print(table)


def write_json(path: Path, measures: Sequence[Measure], about: dict[str, str]) -> None:
    """Into the file, where these replace what it has of the same name: scenarios may be taken one after the other."""
    found = json.loads(path.read_text()) if path.exists() else {"about": {}, "measures": []}
    new = {measure.key: measure.as_dict() for measure in measures}
    kept = [old for old in found["measures"] if f"{old['stack']}/{old['scenario']}/{old['what']}" not in new]
    merged = sorted([*kept, *new.values()], key=lambda measure: (measure["stack"], measure["scenario"]))
    path.write_text(json.dumps({"about": {**found["about"], **about}, "measures": merged}, indent=1) + "\n")
