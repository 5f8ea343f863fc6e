"""A kill before and after each call to a server, here of every so many; `python -m yadtq.testing.sim --sweep` does all."""

from __future__ import annotations

import pytest

from yadtq.testing.sim.sweep import SCENARIOS, Small, sweep


@pytest.mark.parametrize("small", SCENARIOS, ids=lambda small: small.name)
def test_a_kill_between_any_two_steps(small: Small) -> None:
    runs = 0
    for report in sweep(small, seed=1, step=23):
        runs += 1
        assert not report.problems, f"killed {report.hit}: {report.problems[:5]}\n{report.tail}\n{report.again}"
    assert runs > 5
