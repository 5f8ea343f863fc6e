"""Each judge is shown a good history, which it must pass, and one that breaks its invariant in each way it knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.invariants import (
    Census,
    CommitSample,
    History,
    Lease,
    Observation,
    Record,
    commits_stay_behind,
    every_submit_ends,
    executions_are_bounded,
    final_states_stand,
    logs_are_clean,
    lowest_unfinished,
    nothing_leaked,
    results_were_owned,
    violations,
)
from tests.support.ledger import Execution

RUN = Execution("a", 1, "n1", "w1", started_at=1.0, ended_at=2.0)
RERUN = Execution("a", 2, "n2", "w2", started_at=3.0, ended_at=4.0)
QUEUED = Observation("a", "QUEUED", at=0.5)
DONE = Observation("a", "SUCCESS", at=2.1, attempt=1, result="125", nonce="n1")


def good_history() -> History:
    return History(
        acknowledged={"a": 0.0},
        executions=[RUN],
        observations=[QUEUED, DONE, replace(DONE, at=9.0)],
        leases=[Lease("a", 1, "n1", since=0.9, until=5.0)],
        commits=[CommitSample(0, committed=3, lowest_unfinished=3)],
        before=Census(connections=["itself to 127.0.0.1:6379"]),
        after=Census(connections=["itself to 127.0.0.1:6379"]),
        log_lines=["INFO all is well", "ERROR task a failed\n"],
    )


def test_a_good_history_has_no_violations() -> None:
    assert violations(good_history(), within_s=10) == []


def test_a_thoroughly_bad_history_breaks_all_seven() -> None:
    bad = History(
        acknowledged={"a": 0.0, "lost": 0.0},
        executions=[replace(RUN, ended_at=3.5), RERUN],
        observations=[DONE, replace(DONE, at=5.0, result="7")],
        commits=[CommitSample(0, committed=4, lowest_unfinished=3)],
        after=Census(processes=["python"]),
        log_lines=["Task exception was never retrieved"],
    )
    assert {found[:2] for found in violations(bad, within_s=10)} == {f"I{n}" for n in range(1, 8)}


def test_i1_lost_and_late() -> None:
    assert every_submit_ends({"a": 0.0}, [QUEUED], within_s=10) == [
        "I1: a was acknowledged and never ended (last seen: QUEUED)"
    ]
    assert every_submit_ends({"a": 0.0}, [], within_s=10) == [
        "I1: a was acknowledged and never ended (last seen: nothing)"
    ]
    assert every_submit_ends({"a": 0.0}, [replace(DONE, at=10.5)], within_s=10) == [
        "I1: a ended after 10.5 s, more than 10 s"
    ]


def test_i1_says_nothing_about_submits_that_were_never_acknowledged() -> None:
    assert every_submit_ends({}, [QUEUED], within_s=10) == []


@pytest.mark.parametrize("change", [{"result": "7"}, {"state": "FAILED"}, {"state": "QUEUED"}, {"attempt": 2}])
def test_i2_a_final_state_changed(change: dict[str, object]) -> None:
    later = replace(DONE, at=3.0, **change)  # type: ignore[arg-type]
    (found,) = final_states_stand([later, DONE], [RUN])
    assert found.startswith("I2: a was SUCCESS of attempt 1 with '125' and became ")


def test_i2_a_stale_attempt_won() -> None:
    assert final_states_stand([replace(DONE, at=5.0)], [RUN, RERUN]) == [
        "I2: a shows attempt 1, but attempt 2 was started"
    ]


def test_i3_the_winner_had_been_taken_over() -> None:
    zombie = replace(RUN, ended_at=3.5)
    (found,) = results_were_owned([DONE], [zombie, RERUN])
    assert found == "I3: a attempt 1 ended at 3.500, after attempt 2 had taken over at 3.000"


@pytest.mark.parametrize(
    "runs",
    [[], [replace(RUN, ended_at=None)], [replace(RUN, raised=True)], [replace(RUN, nonce="other")]],
    ids=["never ran", "never ended", "raised", "another nonce"],
)
def test_i3_a_result_from_nowhere(runs: list[Execution]) -> None:
    assert results_were_owned([DONE], runs) == ["I3: a succeeded in attempt 1 (nonce n1), which never ended"]


def test_i3_the_lease_had_ended() -> None:
    leases = [Lease("a", 1, "n1", since=0.9, until=1.5)]
    assert results_were_owned([DONE], [RUN], leases) == ["I3: a attempt 1 ended at 2.000, its lease at 1.500"]
    assert results_were_owned([DONE], [RUN], [*leases, Lease("a", 1, "n1", since=1.4, until=2.4)]) == []


def test_i3_a_rerun_after_a_crash_is_fine() -> None:
    crashed = replace(RUN, ended_at=None)
    won = replace(DONE, at=4.1, attempt=2, nonce="n2")
    assert results_were_owned([won], [crashed, RERUN]) == []
    assert final_states_stand([won], [crashed, RERUN]) == []


def test_i3_a_cancelled_task_needs_no_execution() -> None:
    assert results_were_owned([Observation("a", "CANCELLED", at=1.0)], []) == []


def test_i4_committed_past_an_unfinished_task() -> None:
    assert commits_stay_behind([CommitSample(2, committed=8, lowest_unfinished=7)]) == [
        "I4: partition 2 committed 8, but 7 is unfinished"
    ]


def test_lowest_unfinished_counts_the_last_copy_and_what_the_journal_does_not_hold() -> None:
    records = [
        Record(0, 0, "done"),
        Record(0, 1, "straggler"),
        Record(0, 2, "waits for a retry"),
        Record(0, 3, "open"),
        Record(0, 4, "straggler"),
        Record(1, 0, "done too"),
    ]
    lowest = lowest_unfinished(records, finished={"done", "done too"}, journalled={"waits for a retry"})
    assert lowest == {0: 3, 1: 1}
    assert lowest_unfinished(records, finished={"done", "open"}, journalled={"waits for a retry"}) == {0: 4, 1: 0}


def test_i5_more_executions_than_faults() -> None:
    assert executions_are_bounded([RUN, RERUN], faults=1) == []
    assert executions_are_bounded([RUN, RERUN], faults=0) == ["I5: a ran 2 times, more than 1"]
    assert executions_are_bounded([RUN, RERUN], faults=0, retries={"a": 1}) == []


def test_i5_one_attempt_ran_twice_although_faults_would_allow_two_runs() -> None:
    assert executions_are_bounded([RUN, replace(RUN, worker="w2")], faults=5) == ["I5: attempt 1 of a ran 2 times"]


@pytest.mark.parametrize("kind", ["processes", "threads", "connections", "keys"])
def test_i6_something_left_behind(kind: str) -> None:
    before, after = Census(**{kind: ["x"]}), Census(**{kind: ["x", "x", "y"]})
    assert nothing_leaked(before, after) == [f"I6: {kind} left behind: x (1)", f"I6: {kind} left behind: y (1)"]
    assert nothing_leaked(after, before) == []


@pytest.mark.parametrize(
    "line",
    [
        "ERROR:asyncio:Task exception was never retrieved",
        "Task was destroyed but it is pending!",
        "RuntimeWarning: coroutine 'work' was never awaited",
        "Unclosed AIOKafkaProducer",
        "Fatal Python error: Segmentation fault",
    ],
)
def test_i7_dirty_logs(line: str) -> None:
    assert logs_are_clean(["fine", line + "\n"]) == [f"I7: {line}"]
