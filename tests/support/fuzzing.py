"""How long a test that throws anything at a part goes on: a moment in the suites, `MINUTES=10` minutes if asked for."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MINUTES", "fuzz", "tried"]

MINUTES = float(os.environ.get("MINUTES") or 0)
_ROUND = 500
#: Inputs that each test has tried, by its name: what tests/conftest.py reports at the end.
tried: dict[str, int] = {}


def fuzz(test: Callable[[], None], examples: int) -> None:
    """Run `test`, a function under `@given`, on so many examples, or on rounds of new ones for `MINUTES`.

    Tests are divided: each gets the whole time, so run one file or one test with it.
    """
    effort = settings(
        max_examples=_ROUND if MINUTES else examples,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    name = os.environ.get("PYTEST_CURRENT_TEST", test.__name__).partition(" ")[0]
    run = effort(_counted(test, name))
    until = time.monotonic() + MINUTES * 60
    while True:
        run()
        if time.monotonic() >= until:
            break


def _counted(test: Any, name: str) -> Any:
    """Hypothesis may try fewer inputs than it is allowed to, so they are counted where they arrive."""
    inner = test.hypothesis.inner_test

    @functools.wraps(inner)
    def counted(*args: Any, **kwargs: Any) -> Any:
        tried[name] = tried.get(name, 0) + 1
        return inner(*args, **kwargs)

    test.hypothesis.inner_test = counted
    return test
