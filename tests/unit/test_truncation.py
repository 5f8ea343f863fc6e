"""Where a partition may be cut off: a pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yadtq.broker.truncation import truncation_points

PARTITIONS = [("t", number) for number in range(4)]
commits = st.dictionaries(st.sampled_from(PARTITIONS), st.integers(-1, 1000))


def test_the_slowest_group_decides() -> None:
    ours, audit = {("t", 0): 10, ("t", 1): 7}, {("t", 0): 4, ("t", 1): 9}
    assert truncation_points(PARTITIONS[:2], [ours, audit]) == {("t", 0): 4, ("t", 1): 7}


def test_a_group_that_has_read_nothing_forbids_the_cut() -> None:
    assert truncation_points([("t", 0)], [{("t", 0): 10}, {}]) == {}
    assert truncation_points([("t", 0)], [{("t", 0): 10}, {("t", 0): -1}]) == {}
    assert truncation_points([("t", 0)], []) == {}


@given(st.lists(commits, min_size=1, max_size=4))
def test_nothing_uncommitted_is_ever_cut_off(groups: list[dict[tuple[str, int], int]]) -> None:
    for partition, point in truncation_points(PARTITIONS, groups).items():
        assert point > 0
        assert all(group.get(partition, -1) >= point for group in groups)
