"""Many workers and many partitions in one process. `python -m yadtq.testing.sim --scale 1000` is the whole of it."""

from __future__ import annotations

from yadtq.testing.sim.scale import run_scale


def test_fifty_workers_and_a_hundred_partitions() -> None:
    report = run_scale(seed=1, workers=50, partitions=100, tasks=1_000)
    assert not report.problems, f"{report.problems[:5]}\n{report.tail}\n{report.again}"
    assert report.tasks == 1_000
