"""`python -m tests.chaos soak --seed N --minutes M [--stack kafka|embedded]`, and `... measure`: see docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import measure, soak
from tests.chaos.world import QUICK_SETTINGS, World
from tests.support import stacks


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--stack", choices=("kafka", "embedded"), help="default: real Kafka where it can be run")
    parser.add_argument("--folder", type=Path, help="for logs and ledgers; kept (default: a temporary one)")
    commands = parser.add_subparsers(dest="command", required=True)
    mix = commands.add_parser("soak", help="faults by seed under load, then a verdict; exit status 1 on a violation")
    mix.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    mix.add_argument("--minutes", type=float, default=30.0)
    mix.add_argument("--rate", type=float, default=30.0, help="tasks submitted per second (default: %(default)g)")
    mix.add_argument(
        "--workers", type=int, nargs=2, default=(2, 1), metavar="N", help="of the two fleets (default: 2 1)"
    )
    figures = commands.add_parser("measure", help="take the figures of docs/reliability.md, as a Markdown table")
    figures.add_argument("--only", default=",".join(measure.MEASURES), help="comma-separated (default: %(default)s)")
    figures.add_argument("--rounds", type=int, default=20, help="kills (default: %(default)s)")
    for command in (mix, figures):
        command.add_argument("--stack", choices=("kafka", "embedded"), default=argparse.SUPPRESS)
        command.add_argument("--folder", type=Path, default=argparse.SUPPRESS)
    return parser.parse_args(argv)


async def run_soak(arguments: argparse.Namespace, stack: stacks.StackName, folder: Path) -> int:
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, stack {stack}, {arguments.minutes:g} minutes, everything in {folder}", flush=True)
    async with World(folder, stack, settings={**QUICK_SETTINGS, **soak.SETTINGS}, seed=seed) as world:
        report = await soak.soak(
            world,
            seed=seed,
            seconds=60 * arguments.minutes,
            workers=tuple(arguments.workers),
            per_second=arguments.rate,
            tell=lambda line: print(line, flush=True),
        )
    print(report.text(), flush=True)
    return 1 if report.violations else 0


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    stack = stacks.choose(arguments.stack)
    if not (found := stacks.available(stack)):
        print(f"the stack {stack!r} can't be run here: {found.reason}", file=sys.stderr)
        return 2
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="yadtq-chaos-"))
    if arguments.command == "soak":
        status = asyncio.run(run_soak(arguments, stack, folder))
    else:
        names = arguments.only.split(",")
        status = asyncio.run(measure.measure(names, stack, folder, rounds=arguments.rounds))
    if arguments.folder is None and status == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
