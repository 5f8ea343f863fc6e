"""One run of a world, from its seed to a report."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yadtq.testing.sim.world import Violation, World

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Report", "in_world", "keep_imports"]


@dataclass
class Report:
    """problems: empty if all held. calls: to servers, each of them two. points, hit: of a sweep."""

    seed: int
    digest: str = ""
    virtual_s: float = 0.0
    worker_s: float = 0.0
    events: int = 0
    calls: int = 0
    tasks: int = 0
    faults: int = 0
    seconds: float = 0.0
    points: int = 0
    hit: str = ""
    command: str = ""
    problems: list[str] = field(default_factory=list)
    tail: str = ""

    @property
    def again(self) -> str:
        """How to repeat this run."""
        return f"commit {_commit()}; again: python -m yadtq.testing.sim {self.command} --jobs 1"


def in_world(seed: int, play: Callable[[World, Report], None]) -> Report:
    """Make a world, run `play` in it, and always clean up."""
    began = time.perf_counter()
    report = Report(seed)
    world = World(seed)
    was_enabled = gc.isenabled()
    gc.disable()  # a collection in the middle is the one thing that no seed decides
    logging.disable(logging.CRITICAL)
    try:
        try:
            play(world, report)
            for node in world.nodes:
                if node.alive:
                    node.loop.report_lost_errors()
        except Violation as violation:
            report.problems.append(str(violation))
        report.problems += [problem for problem in world.problems if problem not in report.problems]
        report.hit = world.hit
        report.tail = world.tail(150) if report.problems else ""
        report.digest, report.virtual_s, report.events, report.calls = (
            world.digest,
            world.now,
            world.events,
            world.points,
        )
    finally:
        _tidy(world)
        logging.disable(logging.NOTSET)
        if was_enabled:
            gc.enable()
    report.seconds = time.perf_counter() - began
    return report


def keep_imports() -> None:
    """What was imported so far lives on: the collection at the end of each run need not look at it."""
    gc.collect()
    gc.freeze()


def _tidy(world: World) -> None:
    """Close the world, and collect what is left of it before anything else runs: its `finally` blocks have no loop."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        world.close()
        world.nodes.clear()
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
