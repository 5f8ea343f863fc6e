"""The oracle sees what it must see, and excuses nothing but what a fault has touched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.oracle import Evidence, Touch, judge, second_executions
from tests.support.invariants import CommitSample, Observation
from tests.support.ledger import Execution


def run(attempt: int = 1, worker: str = "w1", since: float = 1.0, until: float | None = 2.0) -> Execution:
    return Execution("t", attempt, f"n{attempt}{worker}", worker, since, until)


def seen(
    state: str = "SUCCESS", attempt: int = 1, worker: str = "w1", at: float = 3.0, result: str = "1"
) -> Observation:
    return Observation("t", state, at, attempt, result, f"n{attempt}{worker}")


def verdict(**evidence: Any) -> list[str]:
    return judge(
        Evidence(**{"acknowledged": {"t": 0.5}, "executions": [], "observations": [], **evidence}), within_s=60
    )


def test_a_clean_run_is_clean() -> None:
    assert verdict(executions=[run()], observations=[seen()]) == []


@pytest.mark.parametrize(
    "extra", [{}, {"touches": [Touch("kill", 1.5, 1.6, frozenset({"w2"}))]}], ids=["none", "other"]
)
def test_a_second_execution_without_a_fault_on_its_worker_is_one_too_many(extra: dict[str, Any]) -> None:
    runs = [run(until=None), run(2, "w3", 1.9, 2.5)]
    assert [line[:2] for line in verdict(executions=runs, observations=[seen("SUCCESS", 2, "w3")], **extra)] == ["I5"]


def test_a_fault_excuses_one_execution_of_what_it_touched() -> None:
    touches = [Touch("kill", 1.5, 1.6, frozenset({"w1"}))]
    runs = [run(until=None), run(2, "w3", 1.9, 2.5)]
    assert verdict(executions=runs, observations=[seen("SUCCESS", 2, "w3")], touches=touches) == []
    runs.append(run(3, "w4", 3.0, 3.5))
    assert [
        line[:2] for line in verdict(executions=runs, observations=[seen("SUCCESS", 3, "w4")], touches=touches)
    ] == ["I5"]
    assert second_executions(Evidence({}, runs, [], touches=touches)) == {"kill": 2}


def test_a_task_that_had_ended_long_before_the_fault_is_not_excused() -> None:
    touches = [Touch("kill", 10.0, 10.1, frozenset({"w1"}))]
    runs = [run(), run(2, "w3", 11.0, 12.0)]
    found = verdict(executions=runs, observations=[seen("SUCCESS", 2, "w3", at=13.0)], touches=touches)
    assert [line[:2] for line in found] == ["I5"]


def test_retries_that_were_asked_for_are_no_second_executions() -> None:
    runs = [run(), run(2, "w1", 2.5, 2.6)]
    evidence = {"executions": runs, "observations": [seen("SUCCESS", 2)], "retries": {"t": 1}}
    assert verdict(**evidence) == []
    assert second_executions(Evidence({}, runs, [], retries={"t": 1})) == {"retry": 1}


def test_a_lost_task_is_seen() -> None:
    assert [line[:2] for line in verdict(observations=[seen("QUEUED", 0)])] == ["I1"]


def test_a_result_that_changes_is_seen() -> None:
    found = verdict(executions=[run()], observations=[seen(), seen(at=4.0, result="2")])
    assert [line[:2] for line in found] == ["I2"]


def test_a_zombies_result_is_seen() -> None:
    """Attempt 1 ended after attempt 2 had begun, and is shown as the result."""
    runs = [run(until=5.0), run(2, "w2", 3.0, 6.0)]
    touches = [Touch("freeze", 1.0, 5.0, frozenset({"w1"}))]
    found = verdict(executions=runs, observations=[seen(at=5.1)], touches=touches)
    assert {line[:2] for line in found} == {"I2", "I3"}


def test_a_commit_past_an_unfinished_task_is_seen() -> None:
    found = verdict(executions=[run()], observations=[seen()], commits=[CommitSample(0, 5, 4)])
    assert [line[:2] for line in found] == ["I4"]


def test_after_a_loss_of_all_data_a_task_may_run_and_count_anew() -> None:
    touches = [Touch("empty-redis", float("-inf"), 4.0)]
    runs = [run(2, since=1.0), run(1, "w2", 5.0, 6.0)]
    looks = [seen("SUCCESS", 2), seen("IN_PROGRESS", 1, "w2", at=5.5), seen("SUCCESS", 1, "w2", at=7.0)]
    assert verdict(executions=runs, observations=looks, touches=touches, losses=[4.0]) == []
    assert verdict(executions=runs, observations=looks) != []


def test_the_result_of_a_task_from_after_the_loss_may_not_be_lost() -> None:
    evidence = Evidence({"before": 1.0, "after": 5.0}, [], [], losses=[4.0])
    assert evidence.may_be_lost("before")
    assert not evidence.may_be_lost("after")
