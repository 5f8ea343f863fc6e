"""`python -m tests.bench peers`: every system in every scenario, and YADTQ among them, on the same servers.

A and D: all tasks are queued first, then one worker starts; the clock runs from the first execution until the last
result is in Redis. CPU is that of the worker's process and its children. Each value is a list of samples.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.bench import docs, machine, report
from tests.bench.peers.catalog import PEERS
from tests.bench.peers.ours import measure_ours
from tests.bench.peers.run import Bench

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

Values = dict[str, list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stack", choices=["embedded", "kafka"], default="kafka")
    parser.add_argument("--peer", default="", help="only labels that contain this")
    parser.add_argument("--scenario", default="ABCDEF", help="letters (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a fifth of the tasks")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")


def run(arguments: argparse.Namespace) -> int:
    from tests.bench.__main__ import planned

    about = dict(machine.describe(), date=time.strftime("%Y-%m-%d"), load=f"{machine.load():.1f} before the run")
    rows: list[dict[str, Any]] = []
    with planned(arguments.stack, arguments.repeats, quick=arguments.quick) as plan:
        about[plan.stack.name] = plan.stack.about
        if arguments.peer in "YADTQ":
            rows.append(_row("YADTQ", _measured("YADTQ", lambda: measure_ours(plan, arguments.scenario)), ours=True))
        for peer in PEERS:
            letters = "".join(letter for letter in peer.scenarios if letter in arguments.scenario)
            if arguments.peer in peer.label and letters:
                bench = Bench(plan, peer)
                rows.append(_row(peer.label, _measured(peer.label, lambda: bench.measure(letters))))  # noqa: B023
    _show(rows, about)
    if arguments.json:
        _write_json(arguments.json, rows, about)
    return 0


def _write_json(path: Path, rows: list[dict[str, Any]], about: dict[str, str]) -> None:
    """Into the file: systems and scenarios may be taken one after the other."""
    found = json.loads(path.read_text()) if path.exists() else {"about": {}, "peers": []}
    before = {row["label"]: row for row in found["peers"]}
    for row in rows:
        row["values"] = {**before.get(row["label"], row)["values"], **row["values"]}
        before[row["label"]] = row
    order = {label: at for at, label in enumerate(["YADTQ", *(peer.label for peer in PEERS)])}
    merged = sorted(before.values(), key=lambda row: order.get(row["label"], len(order)))
    path.write_text(json.dumps({"about": {**found["about"], **about}, "peers": merged}, indent=1) + "\n")


def _row(label: str, values: Values, *, ours: bool = False) -> dict[str, Any]:
    return {"label": label, "family": label.partition(",")[0], "ours": ours, "values": values}


def _measured(label: str, measure: Callable[[], Values]) -> Values:
    """A system that fails is a row with holes, not the end of a run of twenty minutes."""
    try:
        values = measure()
    except (RuntimeError, TimeoutError) as error:
        print(f"{label}: {error}", file=sys.stderr, flush=True)
        return {}
    print(
        f"{label}: {', '.join(f'{name} {report.number(report.middle(s))}' for name, s in values.items())}", flush=True
    )
    return values


def _show(rows: list[dict[str, Any]], about: dict[str, str]) -> None:
    table = Table(*docs.peer_head(), box=None, pad_edge=False)
    for cells in docs.peer_rows(rows):
        table.add_row(*cells)
    console = Console(width=190)
    for name, text in about.items():
        console.print(f"{name}: {text}", highlight=False)
    console.print(table)
