"""The table of transitions is closed, and its letters fit one byte each."""

from __future__ import annotations

import pytest

from yadtq.wire.states import FINAL, STATE_OF_CODE, TRANSITIONS, TaskStatus


def test_every_state_has_a_letter_of_its_own_and_back() -> None:
    codes = [status.code for status in TaskStatus]
    assert all(len(code) == 1 and code.isascii() for code in codes)
    assert len(set(codes)) == len(TaskStatus)
    assert [STATE_OF_CODE[code] for code in codes] == list(TaskStatus)


def test_the_last_three_are_final() -> None:
    assert [status for status in TaskStatus if status.final] == list(TaskStatus)[-3:]
    assert {TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED} == FINAL


def test_statuses_are_their_names() -> None:
    assert all(status == status.name == str(status) == f"{status}" for status in TaskStatus)


def test_nothing_leads_out_of_a_final_state() -> None:
    assert not [state for state, _ in TRANSITIONS if state in FINAL]


def test_an_end_comes_only_from_finish() -> None:
    assert {verb for (_, verb), targets in TRANSITIONS.items() if targets & FINAL} == {"finish"}


@pytest.mark.parametrize("start", [None, *set(TaskStatus) - FINAL - {TaskStatus.SCHEDULED}])
def test_from_everywhere_there_is_a_way_to_every_end(start: TaskStatus | None) -> None:
    reached: set[TaskStatus | None] = {start}
    while step := {to for (state, _), targets in TRANSITIONS.items() if state in reached for to in targets} - reached:
        reached |= step
    assert reached >= FINAL
