"""The decision to try again, for all numbers of failures, errors and jitters."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.errors import ConfigError, Discard, Retry
from yadtq.retry import RetryPolicy

policies = st.builds(
    RetryPolicy, retries=st.integers(0, 10_000), base_s=st.floats(0.001, 100), cap_s=st.floats(0.001, 1e6)
)
jitters = st.floats(0, 1, exclude_max=True)
errors = st.sampled_from([ValueError("x"), KeyboardInterrupt(), ExceptionGroup("g", [ValueError("x"), KeyError("y")])])


@given(policies, st.integers(1, 20_000), errors, jitters)
def test_never_beyond_the_retries_and_always_up_to_them(
    policy: RetryPolicy, failures: int, error: BaseException, jitter: float
) -> None:
    assert (policy.delay(failures, error, jitter) is None) == (failures > policy.retries)


@given(policies, st.integers(1, 10_000), jitters)
def test_half_of_the_back_off_is_sure_and_it_never_exceeds_the_cap(
    policy: RetryPolicy, failures: int, jitter: float
) -> None:
    delay = policy.delay(failures, ValueError(), jitter)
    if delay is not None:
        ceiling = min(policy.cap_s, policy.base_s * 2 ** min(failures - 1, 200))
        assert ceiling / 2 <= delay <= ceiling <= policy.cap_s


@given(policies, st.integers(1, 10_000), jitters)
def test_it_never_shrinks_with_more_failures(policy: RetryPolicy, failures: int, jitter: float) -> None:
    first, second = policy.delay(failures, ValueError(), jitter), policy.delay(failures + 1, ValueError(), jitter)
    assert second is None or (first is not None and second >= first)


def test_it_doubles() -> None:
    policy = RetryPolicy(retries=5, base_s=2.0, cap_s=20.0)
    assert [policy.delay(n, ValueError(), 0.5) for n in range(1, 7)] == [1.5, 3.0, 6.0, 12.0, 15.0, None]


@given(policies, st.integers(1, 10_000), jitters)
def test_discard_gives_up_at_once(policy: RetryPolicy, failures: int, jitter: float) -> None:
    assert policy.delay(failures, Discard("no use"), jitter) is None


@given(st.floats(0, 31_536_000), jitters)
def test_the_delay_asked_for_is_taken_as_it_is(delay: float, jitter: float) -> None:
    policy = RetryPolicy(retries=1, cap_s=1.0)
    assert policy.delay(1, Retry(delay=delay), jitter) == delay
    assert policy.delay(2, Retry(delay=delay), jitter) is None, "it counts against the retries"


NO_DELAYS = [
    timedelta(seconds=1),
    "1",
    -1,
    float("inf"),
    float("nan"),
    1e17,
    Decimal("0.1"),
    True,
    10**400,
]


@pytest.mark.parametrize("delay", NO_DELAYS, ids=repr)
def test_a_delay_that_is_no_number_of_seconds_is_refused_where_it_is_said(delay: Any) -> None:
    with pytest.raises(ConfigError, match="takes seconds") as refused:
        Retry(delay=delay)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("delay", NO_DELAYS, ids=repr)
def test_or_where_it_is_used(delay: Any) -> None:
    class Ours(Retry):
        def __init__(self) -> None:
            self.delay = delay

    with pytest.raises(ConfigError, match="takes seconds"):
        RetryPolicy(retries=1).delay(1, Ours(), 0.0)


def test_a_subclass_that_forgets_its_base_takes_the_back_off() -> None:
    class Ours(Retry):
        def __init__(self) -> None:
            pass

    assert RetryPolicy(retries=1, base_s=4.0).delay(1, Ours(), 0.0) == 2.0


def test_one_that_is_asked_for_is_granted_without_retries_and_not_for_ever() -> None:
    policy = RetryPolicy(retries=0)
    assert policy.delay(1, Retry(delay=5), 0.0) == 5
    assert policy.delay(100, Retry(delay=5), 0.0) == 5
    assert policy.delay(101, Retry(delay=5), 0.0) is None


def test_what_is_asked_for_in_a_group_counts() -> None:
    policy = RetryPolicy(retries=3)
    inner = ExceptionGroup("inner", [KeyError("y"), Retry(delay=2)])
    assert policy.delay(1, ExceptionGroup("outer", [ValueError("x"), inner]), 0.0) == 2
    assert policy.delay(1, BaseExceptionGroup("outer", [Discard("no"), inner]), 0.0) is None, "giving up wins"


def test_retry_without_a_delay_takes_the_back_off() -> None:
    policy = RetryPolicy(retries=1)
    assert policy.delay(1, Retry("busy"), 0.25) == policy.delay(1, ValueError(), 0.25)


@pytest.mark.parametrize("error", [ValueError(), Discard("x")])
def test_without_retries_there_is_none(error: Exception) -> None:
    assert RetryPolicy().delay(1, error, 0.0) is None
