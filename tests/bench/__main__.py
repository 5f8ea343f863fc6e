"""`python -m tests.bench`: run, check, profile, peers. See docs/performance.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import machine, profile, report, stacks
from tests.bench.scenarios import Plan, drain, latency, memory, scaling, submit

SCENARIOS = {
    "A": drain.noops,
    "B1": submit.one_by_one,
    "B2": submit.in_bulk,
    "C": latency.round_trip,
    "D": drain.sleepers,
    "E": memory.resident,
    "F": memory.stored,
    "S1": scaling.two_workers,
    "S2": scaling.backlogs,
    "S3": scaling.partitions,
    "EL": memory.growth,
}
DEFAULT = [name for name in SCENARIOS if name != "EL"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure the scenarios")
    run.add_argument("--stack", choices=[*stacks.NAMES, "both"], default="embedded")
    run.add_argument(
        "--scenario", default=",".join(DEFAULT), help="comma-separated (default: %(default)s); EL: a long run"
    )
    run.add_argument("--repeats", type=int, default=3)
    run.add_argument("--quick", action="store_true", help="a fifth of the work")
    run.add_argument("--json", type=Path, help="also write the numbers to this file")
    trace = commands.add_parser("profile", help="cProfile of the worker in A, and of the client in B1 and B2")
    trace.add_argument("--stack", choices=stacks.NAMES, default="embedded")
    trace.add_argument("--scenario", default="A,B1,B2")
    trace.add_argument("--count", type=int, default=40, help="functions to print")
    trace.add_argument("-n", type=int, default=20_000, help="tasks")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> int:
    names = stacks.NAMES if arguments.stack == "both" else [arguments.stack]
    chosen = [name.strip() for name in arguments.scenario.split(",")]
    unknown = set(chosen) - set(SCENARIOS)
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    measures = []
    about = dict(machine.describe(), date=time.strftime("%Y-%m-%d"), load=f"{machine.load():.1f}")
    with tempfile.TemporaryDirectory(prefix="yadtq-bench-") as folder:
        for name in names:
            with stacks.opened(name) as stack:
                about[name] = stack.about
                plan = Plan(stack, Path(folder), arguments.repeats, arguments.quick)
                for scenario in chosen:
                    found = SCENARIOS[scenario](plan)
                    for measure in found:
                        measure.stack = name
                        print(report.line(measure), flush=True)
                    measures += found
    report.show(measures, about)
    if arguments.json:
        report.write_json(arguments.json, measures, about)
    return 0


def main() -> int:
    arguments = parse()
    if arguments.command == "run":
        return run(arguments)
    return profile.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
