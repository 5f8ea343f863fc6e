"""`python -m tests.bench`: run, check, profile, peers, docs. See docs/performance.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import docs, machine, profile, reference, report, stacks
from tests.bench.peers import driver
from tests.bench.processes import REPOSITORY
from tests.bench.scenarios import Plan, Scenario, drain, latency, memory, scaling, submit
from tests.support import stacks as test_stacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Measure

SCENARIOS: dict[str, Scenario] = {
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
    "BR": drain.among_bad,
}
JSON = REPOSITORY / ".cache" / "bench.json"
#: Those that take minutes only when they are asked for.
DEFAULT = [name for name in SCENARIOS if name not in ("EL", "BR")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure the scenarios")
    run.add_argument("--stack", choices=[*stacks.NAMES, "both"], help="default: both, where Apache Kafka can be run")
    run.add_argument(
        "--scenario", default=",".join(DEFAULT), help="comma-separated (default: %(default)s); EL and BR are long"
    )
    run.add_argument("--repeats", type=int, default=3)
    run.add_argument("--quick", action="store_true", help="a fifth of the work")
    run.add_argument("--json", type=Path, default=JSON, help="the numbers behind the table go here (%(default)s)")
    check = commands.add_parser("check", help="quick ratios against reference.json; fails past 20 %%")
    check.add_argument("--stack", choices=stacks.NAMES, default="embedded")
    check.add_argument("--scenario", default=",".join(reference.SCENARIOS))
    check.add_argument("--repeats", type=int, default=3)
    check.add_argument("--update", action="store_true", help="write reference.json instead")
    trace = commands.add_parser("profile", help="cProfile of the worker in A, and of the client in B1, B2 and C")
    trace.add_argument("--stack", choices=stacks.NAMES, default="embedded")
    trace.add_argument("--scenario", default="A,B1,B2")
    trace.add_argument("--count", type=int, default=40, help="functions to print")
    trace.add_argument("-n", type=int, default=20_000, help="tasks")
    trace.add_argument("--partitions", type=int, default=4, help="of A's topic")
    driver.add_arguments(commands.add_parser("peers", help="the same scenarios on other task queues, side by side"))
    docs.add_arguments(commands.add_parser("docs", help="put tables and chart into docs/ from JSON files"))
    return parser.parse_args()


@contextmanager
def planned(name: str, repeats: int, *, quick: bool) -> Iterator[Plan]:
    with tempfile.TemporaryDirectory(prefix="yadtq-bench-") as folder, stacks.opened(name) as stack:
        yield Plan(stack, Path(folder), repeats, quick)


def chosen(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := set(names) - set(SCENARIOS):
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return names


def measured(scenario: str, plan: Plan) -> list[Measure]:
    measures = SCENARIOS[scenario](plan)
    for measure in measures:
        measure.stack = plan.stack.name
        print(report.line(measure), flush=True)
    return measures


def run(arguments: argparse.Namespace) -> int:
    runnable = [name for name in stacks.NAMES if test_stacks.available(name)]
    names = {None: runnable, "both": stacks.NAMES}.get(arguments.stack, [arguments.stack])
    measures: list[Measure] = []
    about = dict(machine.describe(), date=time.strftime("%Y-%m-%d"), load=f"{machine.load():.1f} before the run")
    for name in names:
        with planned(name, arguments.repeats, quick=arguments.quick) as plan:
            about[name] = plan.stack.about
            for scenario in chosen(arguments.scenario):
                measures += measured(scenario, plan)
    report.show(measures, about)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report.write_json(arguments.json, measures, about)
    print(f"in numbers: {arguments.json}")
    return 0


def check(arguments: argparse.Namespace) -> int:
    expected = {} if arguments.update else reference.read()
    lasting: list[Measure] = []
    with planned(arguments.stack, arguments.repeats, quick=True) as plan:
        for scenario in chosen(arguments.scenario):
            measures = measured(scenario, plan)
            if arguments.update:
                reference.write(measures)
                continue
            failing = reference.failing(measures, expected)
            for _ in range(2):
                if failing:
                    print(f"{scenario} is measured again", flush=True)
                    again = {measure.key for measure in reference.failing(measured(scenario, plan), expected)}
                    failing = [measure for measure in failing if measure.key in again]
            lasting += failing
    for measure in lasting:
        share = reference.worse_by(measure, expected)
        print(f"REGRESSION {share:.0%}: {report.line(measure)}; reference {expected[measure.key]}")
    return 1 if lasting else 0


def main() -> int:
    arguments = parse()
    commands = {"run": run, "check": check, "profile": profile.run, "peers": driver.run, "docs": docs.run}
    return commands[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
