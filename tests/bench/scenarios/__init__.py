"""The scenarios: what is measured, how, and the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.measure import Measure
    from tests.bench.stacks import Stack

__all__ = ["Plan", "Scenario"]


@dataclass(frozen=True)
class Plan:
    """How much of everything. quick: a fifth of the work, for `check` and while optimising."""

    stack: Stack
    folder: Path
    repeats: int = 3
    quick: bool = False

    def scaled(self, n: int) -> int:
        return n // 5 if self.quick else n

    def fresh(self) -> None:
        """An empty Redis, so that neither memory nor expiry of an earlier run shows up in this one."""
        with self.stack.store() as store:
            store.execute_command("FLUSHALL", "SYNC")  # Valkey else frees the memory later


class Scenario(Protocol):
    """A scenario returns its measures, each with `plan.repeats` samples, warm-up left out."""

    def __call__(self, plan: Plan) -> list[Measure]: ...
