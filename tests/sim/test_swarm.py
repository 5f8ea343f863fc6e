"""A few seeds of the swarm, and that a seed decides everything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from yadtq.testing.sim.swarm import run_deploy, run_seed


@pytest.mark.parametrize("seed", range(1, 21))
def test_seed(seed: int) -> None:
    report = run_seed(seed)
    assert not report.problems, f"{report.problems[:5]}\nthe last events:\n{report.tail}\n{report.again}"


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_deploy(seed: int) -> None:
    """Old and new code side by side: no task that some worker knows is FAILED."""
    report = run_deploy(seed)
    assert not report.problems, f"{report.problems[:5]}\nthe last events:\n{report.tail}\n{report.again}"


@pytest.mark.parametrize("seed", [2, 5, 20])
def test_a_seed_gives_the_same_run_each_time(seed: int) -> None:
    first, junk = run_seed(seed), [object() for _ in range(1_000)]
    assert run_seed(seed).digest == first.digest
    assert junk


def test_the_order_of_hashes_decides_nothing() -> None:
    """Sets of strings are walked through in another order in each process, unless PYTHONHASHSEED says otherwise."""
    program = "from yadtq.testing.sim.swarm import run_seed; print(run_seed(3).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in (1, 2)
    }
    assert len(digests) == 1
