"""Seeds that have found something in the real code: they stay, with what they found.

A seed means another run when the code before it changes, so each also has a test of its own where its fault was fixed.
"""

from __future__ import annotations

import pytest

from yadtq.testing.sim.swarm import run_deploy, run_seed

FOUND = (
    (6, "a worker with all slots taken span as soon as something parked was due"),
    (2, "a client that had not yet asked for the data set waited for ever after a loss of data"),
    (139, "result() said TaskNotFound of a task whose registration an outage of Redis had held up"),
    (34, "tasks stayed unknown to Redis if all workers died soon after it had lost its data"),
    (47, "a worker that had been evicted unnoticed set a committed offset back with an old tracker"),
    (5081, "result() said TaskNotFound of a task that its own client was registering at that moment"),
    (
        6035,
        "after a rebalance and a loss of data, tasks that had ended were registered again, and a waiter waited for ever",
    ),
    (11160, "a client registered a task whose end Redis had lost meanwhile, and it was QUEUED for ever"),
    (52049, "result() said TaskNotFound of tasks that were submitted while Redis was away and had lost its data"),
    (72256, "late heartbeats of a dead worker made the next supervisor leave its slots, and interrupt their tasks"),
)


@pytest.mark.parametrize(("seed", "story"), FOUND, ids=[str(seed) for seed, _ in FOUND])
def test_a_found_seed_stays_found(seed: int, story: str) -> None:
    report = run_seed(seed)
    assert not report.problems, f"{story}: {report.problems[:3]}\n{report.tail}\n{report.again}"


def test_an_unknown_task_waits_for_its_window_once() -> None:
    """Copies of one began a new window when their claim was refused, because another copy was ending the task."""
    report = run_deploy(320)
    assert not report.problems, f"{report.problems[:3]}\n{report.tail}\n{report.again}"
