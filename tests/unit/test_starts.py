"""Where a member begins: by what is committed, whose commit it is, and of which log."""

from __future__ import annotations

from yadtq.broker.starts import Commit, Start, Where, mark_of, start_of

LOG, OTHER = "a" * 32, "b" * 32


def test_our_own_commit_is_believed() -> None:
    assert start_of(Commit(7, mark_of(LOG)), LOG) == Start(Where.COMMITTED)
    assert start_of(Commit(7, mark_of(LOG)), LOG, known_id=LOG, ours=3) == Start(Where.COMMITTED), "another worker's"


def test_nothing_committed_is_the_first_record() -> None:
    assert start_of(Commit(-1), LOG) == Start(Where.COMMITTED)


def test_a_commit_of_a_log_that_is_no_more_counts_for_nothing() -> None:
    start = start_of(Commit(7, mark_of(OTHER)), LOG)
    assert start.where is Where.EARLIEST
    assert "made again" in start.problem


def test_a_log_that_was_replaced_is_read_from_its_first_record() -> None:
    for commit in (Commit(-1), Commit(7), Commit(7, mark_of(OTHER))):
        assert start_of(commit, LOG, known_id=OTHER, ours=7).where is Where.EARLIEST


def test_another_program_may_not_step_over_what_we_have_not_run() -> None:
    start = start_of(Commit(90, "guest"), LOG, known_id=LOG, ours=40)
    assert (start.where, start.offset) == (Where.OFFSET, 40)
    assert "90" in start.problem


def test_an_operator_may_set_an_offset() -> None:
    fresh = start_of(Commit(90, ""), LOG)
    assert fresh.where is Where.COMMITTED
    assert "90" in fresh.note
    back = start_of(Commit(5, ""), LOG, known_id=LOG, ours=40)
    assert back.where is Where.COMMITTED


def test_without_identities_the_offset_is_all_there_is() -> None:
    assert mark_of("") == ""
    assert start_of(Commit(7, ""), "").where is Where.COMMITTED
    assert start_of(Commit(7, mark_of(LOG)), "").where is Where.COMMITTED
