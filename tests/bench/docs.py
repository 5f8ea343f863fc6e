"""Puts tables and a chart into docs/ out of the JSON files of runs, between marks that are left in place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import report
from tests.bench.chart import Bar, Panel, svg
from tests.bench.measure import Measure
from tests.bench.processes import REPOSITORY

if TYPE_CHECKING:
    import argparse

_PAGE = REPOSITORY / "docs" / "performance.md"
_CHART = REPOSITORY / "docs" / "performance.svg"
_RESULTS = Path(__file__).with_name("results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=_RESULTS / "run.json", help="from run --json")
    parser.add_argument("--peers", type=Path, default=_RESULTS / "peers.json", help="from peers --json")


def run(arguments: argparse.Namespace) -> int:
    page = _PAGE.read_text()
    if arguments.run.exists():
        found = json.loads(arguments.run.read_text())
        page = _put(page, "run", f"{_about(found['about'])}\n\n{_table(report.HEAD, own_rows(found['measures']))}")
    if arguments.peers.exists():
        found = json.loads(arguments.peers.read_text())
        page = _put(page, "peers", f"{_about(found['about'])}\n\n{_table(peer_head(), peer_rows(found['peers']))}")
        _CHART.write_text(svg(_panels(found["peers"])))
    _PAGE.write_text(page)
    return 0


def _put(page: str, mark: str, text: str) -> str:
    begin, end = f"<!-- {mark}: made by `python -m tests.bench docs` -->", f"<!-- end of {mark} -->"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    changed, count = re.subn(pattern, lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
    if not count:
        raise ValueError(f"no marks for {mark!r} in {_PAGE}")
    return changed


def _about(about: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in about.items())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def own_rows(measures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    derived = ("median", "floor_median", "ratio")
    return [report.row(Measure(**{k: v for k, v in measure.items() if k not in derived})) for measure in measures]


#: column head, key in the peers' JSON
COLUMNS = (
    ("no-ops/s", "rate"),
    ("worker CPU us/task", "cpu_us"),
    ("one submit after the other, /s", "submit_each"),
    ("submits in bulk, /s", "submit_bulk"),
    ("submit to result p50, ms", "p50_ms"),
    ("p99, ms", "p99_ms"),
    ("2,000 x 50 ms, s", "sleep_s"),
    ("idle RSS, MB", "rss_mb"),
    ("Redis bytes a task", "bytes"),
)


def peer_head() -> tuple[str, ...]:
    return ("", *(head for head, _ in COLUMNS))


def peer_rows(peers: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each system; where several variants were measured, their values in the order of the catalog."""
    families: dict[str, list[dict[str, list[float]]]] = {}
    for peer in peers:
        families.setdefault(peer["family"], []).append(peer["values"])
    rows = []
    for family, variants in families.items():
        cells = [
            " / ".join(report.number(report.middle(values[key])) for values in variants if values.get(key))
            for _, key in COLUMNS
        ]
        rows.append((family, *(cell or "-" for cell in cells)))
    return rows


def _panels(peers: list[dict[str, Any]]) -> list[Panel]:
    chosen = (("rate", "No-op tasks per second, one worker process"), ("cpu_us", "Worker CPU per task, µs"))
    panels = []
    for key, title in chosen:
        bars = []
        for peer in peers:
            if samples := peer["values"].get(key):
                value = report.middle(samples)
                bars.append(Bar(peer["label"], value, report.number(value), ours=peer["ours"]))
        panels.append(Panel(title, sorted(bars, key=lambda bar: bar.value, reverse=key == "rate")))
    return panels
