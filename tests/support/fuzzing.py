"""How long a test that throws anything at a part goes on: a moment in the suites, `MINUTES=10` minutes if asked for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MINUTES", "fuzz"]

MINUTES = float(os.environ.get("MINUTES") or 0)
_ROUND = 500


def fuzz(test: Callable[[], None], examples: int) -> None:
    """Run `test`, a function under `@given`, on so many examples, or on rounds of new ones for `MINUTES`.

    Tests are divided: each gets the whole time, so run one file or one test with it.
    """
    examples = _ROUND if MINUTES else examples
    effort = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    run = effort(test)
    until, done = time.monotonic() + MINUTES * 60, 0
    while True:
        run()
        done += examples
        if time.monotonic() >= until:
            break
    print(f"{done} examples")
