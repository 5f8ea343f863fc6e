"""Batches read byte by byte: what is there comes, what is not is said, and there is always a next offset."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.raw_batches import CRC_AT, batch_of, with_bad_header, with_checksum
from yadtq.broker.salvage import salvage, salvage_many
from yadtq.runtime.seams import Unreadable

PLACE = ("t", 3)


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4], ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_whole_batch_is_read_as_it_is(codec: int) -> None:
    raw = batch_of(b"a", b"b", b"c", codec=codec, base=10, headers=[("h", b"x")])
    records, after, _ = salvage(PLACE, raw, 10)
    assert [(each.offset, each.value, list(each.headers)) for each in records] == [
        (10, b"a", [("h", b"x")]),
        (11, b"b", [("h", b"x")]),
        (12, b"c", [("h", b"x")]),
    ]
    assert (records[0].topic, records[0].partition, records[0].timestamp) == ("t", 3, 1_700_000_000_000)
    assert after == 13


def test_it_begins_at_the_position() -> None:
    records, after, _ = salvage(PLACE, batch_of(b"a", b"b", b"c", base=10), 12)
    assert [each.offset for each in records] == [12]
    assert after == 13


def test_a_header_name_that_is_not_utf8_costs_nothing() -> None:
    records, after, _ = salvage(PLACE, with_bad_header(b"a", b"b"), 0)
    assert [(each.value, list(each.headers)) for each in records] == [
        (b"a", [("caf\\xe9X", b"1")]),
        (b"b", [("caf\\xe9X", b"1")]),
    ]
    assert after == 2


def test_a_wrong_checksum_is_said_with_the_bytes() -> None:
    raw = bytearray(batch_of(b"a", b"b", base=10))
    raw[-1] ^= 1
    records, after, _ = salvage(PLACE, bytes(raw), 11)
    (lost,) = records
    assert isinstance(lost, Unreadable)
    assert (lost.offset, lost.next, after) == (11, 12, 12)
    assert "checksum" in lost.reason
    assert lost.value == bytes(raw)


def test_what_comes_before_the_damage_is_kept() -> None:
    raw = bytearray(batch_of(b"first", b"second", b"third", base=5))
    at = raw.index(b"second") - 1
    raw[at] = 0x7E  # a value of 63 bytes, where there are six
    records, after, _ = salvage(PLACE, with_checksum(bytes(raw)), 5)
    assert [each.value for each in records[:-1]] == [b"first"]
    lost = records[-1]
    assert isinstance(lost, Unreadable)
    assert (lost.offset, lost.next, after) == (6, 8, 8)


def test_a_compression_that_nobody_knows() -> None:
    raw = bytearray(batch_of(b"a"))
    struct.pack_into(">h", raw, 21, 7)
    (lost,), after, _ = salvage(PLACE, with_checksum(bytes(raw)), 0)
    assert isinstance(lost, Unreadable)
    assert "compression" in lost.reason
    assert after == 1


def test_the_batch_that_follows_says_where_this_one_ends() -> None:
    raw = bytearray(batch_of(b"a", b"b", base=10))
    struct.pack_into(">i", raw, 23, 1_000_000)  # a damaged last offset
    records, after, _ = salvage(PLACE, bytes(raw) + batch_of(b"c", base=12), 10)
    assert isinstance(records[-1], Unreadable)
    assert after == 12


@pytest.mark.parametrize("raw", [b"x", b"\x00" * 61, batch_of(b"a")[:40]])
def test_no_batch_at_all(raw: bytes) -> None:
    (lost,), after, _ = salvage(PLACE, raw, 7)
    assert isinstance(lost, Unreadable)
    assert (lost.offset, after) == (7, 8)


@given(
    st.binary(min_size=1, max_size=400) | st.just(batch_of(b"a" * 50, b"b" * 50, codec=0)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_any_bytes_lead_on(raw: bytes, changes: list[tuple[int, int]], position: int, right: bool) -> None:
    damaged = bytearray(raw)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    data = bytes(damaged)
    if right and len(data) > CRC_AT + 4:
        data = with_checksum(data)  # damage that a checksum doesn't show
    records, after, _ = salvage(PLACE, data, position)
    assert after > position
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))
    assert all(position <= offset < after for offset in offsets)


class TestMany:
    RAW = with_bad_header(b"a", base=4) + batch_of(b"b", b"c", base=5) + batch_of(b"d", base=7, codec=1)

    def test_what_has_come_with_a_batch_is_read_too(self) -> None:
        records, after, size = salvage_many(PLACE, self.RAW, 4, 100)
        assert [(each.offset, each.value) for each in records] == [(4, b"a"), (5, b"b"), (6, b"c"), (7, b"d")]
        assert (after, size) == (8, len(self.RAW))

    def test_it_ends_with_the_batch_that_fills_it(self) -> None:
        assert [salvage_many(PLACE, self.RAW, 4, most).next for most in (1, 2, 3, 4, 5)] == [5, 7, 7, 8, 8]

    def test_a_batch_that_was_cut_off_is_left_for_the_next_fetch(self) -> None:
        for missing in range(1, len(batch_of(b"d", base=7, codec=1)) + 1):
            records, after, _ = salvage_many(PLACE, self.RAW[:-missing], 4, 100)
            assert [each.offset for each in records] == [4, 5, 6]
            assert after == 7

    def test_a_bad_one_behind_it_is_told_like_the_first(self) -> None:
        raw = bytearray(self.RAW)
        raw[-1] ^= 1
        records, after, _ = salvage_many(PLACE, bytes(raw), 4, 100)
        assert [isinstance(each, Unreadable) for each in records] == [False, False, False, True]
        assert after == 8


@given(
    data=st.binary(max_size=200),
    kept=st.integers(0, 300),
    position=st.integers(0, 20),
    most=st.integers(1, 10),
)
def test_whatever_the_bytes_are_the_way_leads_up(data: bytes, kept: int, position: int, most: int) -> None:
    raw = TestMany.RAW[:kept] + data
    if not raw:
        return
    records, after, size = salvage_many(PLACE, raw, position, most)
    offsets = [each.offset for each in records]
    assert offsets == sorted(set(offsets))
    assert all(position <= offset < after for offset in offsets)
    assert after > position
    assert 0 < size <= len(raw)
