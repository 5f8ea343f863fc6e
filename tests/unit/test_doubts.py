"""How long a task may be unknown before that is told to those who wait."""

from __future__ import annotations

import pytest

from yadtq.client.doubts import Doubts
from yadtq.errors import ResultLost, ResultUnreadable, TaskNotFound
from yadtq.settings import Settings
from yadtq.store.tasks.verbs import Unreadable
from yadtq.testing.doubles import ManualClock
from yadtq.wire.states import TaskStatus

SETTINGS = Settings.load(redis_timeout_s=2.0)
KNOWN_AFTER_S = 2.5
LOST_AFTER_S = 20.5


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def doubts(clock: ManualClock) -> Doubts:
    return Doubts(clock, SETTINGS)


def test_unknown_for_longer_than_a_registration_takes_is_not_found(doubts: Doubts, clock: ManualClock) -> None:
    assert doubts.doubt("t", None) is None
    clock.advance(2.0)
    assert doubts.doubt("t", None) is None, "a registration may still be under way"
    clock.advance(KNOWN_AFTER_S - 2.0)
    assert isinstance(doubts.doubt("t", None), TaskNotFound)


def test_what_became_known_meanwhile_begins_again(doubts: Doubts, clock: ManualClock) -> None:
    doubts.doubt("t", None)
    clock.advance(KNOWN_AFTER_S)
    doubts.clear("t")
    assert doubts.doubt("t", None) is None


def test_an_outage_adds_nothing(doubts: Doubts, clock: ManualClock) -> None:
    """The registration was on its way when Redis went away, and is repeated when it is back."""
    doubts.doubt("t", None)
    doubts.outage()
    clock.advance(10 * KNOWN_AFTER_S)
    assert doubts.doubt("t", None) is None
    clock.advance(KNOWN_AFTER_S)
    assert isinstance(doubts.doubt("t", None), TaskNotFound)


def test_after_a_loss_it_takes_as_long_as_workers_need_and_is_lost(doubts: Doubts, clock: ManualClock) -> None:
    doubts.notice("a")
    doubts.notice("a")
    assert not doubts.has_lost
    doubts.doubt("t", None)
    doubts.notice("b")
    clock.advance(KNOWN_AFTER_S)
    assert doubts.doubt("t", None) is None
    clock.advance(LOST_AFTER_S - KNOWN_AFTER_S)
    assert isinstance(doubts.doubt("t", None), ResultLost)


def test_a_damaged_payload_is_told_at_once(doubts: Doubts) -> None:
    assert isinstance(doubts.doubt("t", Unreadable("cut short", TaskStatus.SUCCESS)), ResultUnreadable)


@pytest.mark.parametrize("found", [Unreadable("no hash"), Unreadable("its attempt is no number", TaskStatus.QUEUED)])
def test_a_damaged_state_has_time_to_be_ended_by_a_worker(
    doubts: Doubts, clock: ManualClock, found: Unreadable
) -> None:
    assert doubts.doubt("t", found) is None
    clock.advance(KNOWN_AFTER_S)
    assert isinstance(doubts.doubt("t", found), ResultUnreadable)


def test_the_first_in_doubt_is_the_next_to_look_at(doubts: Doubts, clock: ManualClock) -> None:
    assert doubts.next_due() is None
    start = clock.monotonic()
    doubts.doubt("a", None)
    clock.advance(1.0)
    doubts.doubt("b", None)
    due = doubts.next_due()
    assert due is not None
    assert 2.0 < due - start <= KNOWN_AFTER_S
    assert doubts.overdue() == []
    clock.advance(due - clock.monotonic())
    assert doubts.overdue() == ["a"]
    doubts.clear("a")
    doubts.clear("unheard of")
    later = doubts.next_due()
    assert later is not None
    assert later - due == pytest.approx(1.0)
