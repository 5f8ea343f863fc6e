from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.settings import SupervisorSettings
from yadtq.supervisor.respawn import GiveUp, Respawn, RespawnPolicy

gaps = st.lists(st.floats(0, 1_000), min_size=1, max_size=60)


def policy(**changes: float) -> RespawnPolicy:
    values = {"backoff_s": 0.5, "backoff_cap_s": 30.0, "budget": 10, "window_s": 120.0, **changes}
    return RespawnPolicy(**values, chance=lambda: 1.0)  # type: ignore[arg-type]


def test_the_first_crash_is_answered_at_once_and_the_next_ones_ever_later() -> None:
    rule = policy(budget=100)
    history = rule.history()
    delays = []
    for _ in range(9):
        history.record(0.0)
        decision = rule.decide(history, 0.0)
        assert isinstance(decision, Respawn)
        delays.append(decision.after_s)
    assert delays == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_crash_after_a_calm_time_counts_as_the_first() -> None:
    rule = policy(calm_s=5)
    history = rule.history()
    for at in (0.0, 1.0, 2.0, 8.5):  # the last worker was started at 2.0 + 1 and lived for 5.5 s
        history.record(at)
    assert rule.decide(history, 8.5) == Respawn(0.0)


def test_a_long_back_off_is_not_taken_for_a_calm_time() -> None:
    rule = policy(calm_s=5, budget=100)
    history = rule.history()
    now, delays = 0.0, []
    for _ in range(10):
        history.record(now)
        decision = rule.decide(history, now)
        assert isinstance(decision, Respawn)
        delays.append(decision.after_s)
        now += decision.after_s + 1
    assert delays == [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_spent_budget_ends_the_slot() -> None:
    rule = policy(budget=3)
    history = rule.history()
    for at in (0.0, 50.0, 100.0):
        history.record(at)
    assert rule.decide(history, 100.0) == GiveUp(3, 120.0)
    assert rule.decide(history, 121.0) == Respawn(0.0)


def test_what_is_not_charged_delays_but_never_ends() -> None:
    rule = policy(budget=3)
    history = rule.history()
    for _ in range(5_000):
        history.record(0.0, charged=False)
    assert rule.decide(history, 0.0) == Respawn(30.0)


def test_clearing_forgets() -> None:
    rule = policy(budget=1)
    history = rule.history()
    history.record(0.0)
    history.clear()
    assert rule.decide(history, 0.0) == Respawn(0.0)


def test_the_default_budget_can_be_spent_within_the_default_window() -> None:
    """A worker that dies as soon as it starts is given up some day, whatever the dice say."""
    rule = RespawnPolicy.from_settings(SupervisorSettings.load(), chance=random.random)
    history = rule.history()
    now = 0.0
    for _ in range(rule.budget):
        history.record(now)
        decision = rule.decide(history, now)
        if isinstance(decision, GiveUp):
            return
        now += decision.after_s + 1  # it takes a moment to start and die
    pytest.fail(f"no end after {rule.budget} crashes")


@given(gaps=gaps, chance=st.floats(0, 1, exclude_max=True), budget=st.integers(1, 20), window_s=st.floats(1, 500))
def test_in_no_window_are_there_more_crashes_than_the_budget(
    gaps: list[float], chance: float, budget: int, window_s: float
) -> None:
    rule = RespawnPolicy(backoff_s=0.5, backoff_cap_s=30, budget=budget, window_s=window_s, chance=lambda: chance)
    history = rule.history()
    now, crashes = 0.0, []
    for gap in gaps:
        now += gap
        crashes.append(now)
        history.record(now)
        within = sum(at >= now - window_s for at in crashes)
        decision = rule.decide(history, now)
        if within >= budget:
            assert decision == GiveUp(within, window_s)
            return
        assert isinstance(decision, Respawn)
        assert 0 <= decision.after_s <= 30
        assert decision.after_s > 0 or within == 1 or gap >= 5
        now += decision.after_s


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_delays_never_shrink_within_a_window(charges: list[bool]) -> None:
    rule = policy(budget=1_000)
    history = rule.history()
    delays = []
    for charged in charges:
        history.record(0.0, charged=charged)
        decision = rule.decide(history, 0.0)
        assert isinstance(decision, Respawn)
        delays.append(decision.after_s)
    assert delays == sorted(delays)
