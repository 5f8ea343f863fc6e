"""Data only, never code: whatever goes in comes out, and whatever is not JSON is refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import json
import uuid
import zlib
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from yadtq.wire.codec import CodecError, compress, decode, decompress, encode

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_plain_data_comes_back(value: Any) -> None:
    assert decode(encode(value)) == value


@given(plain)
def test_the_standard_library_reads_the_same(value: Any) -> None:
    assert json.loads(encode(value)) == value


@given(plain)
def test_an_encoded_value_is_one_line(value: Any) -> None:
    # The news of ended tasks are lines with tabs in them.
    assert not set(encode(value)) & set(b"\n\r\t")


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Model(BaseModel):
    at: dt.date


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), {"x": 1, "y": 2}),
        (Model(at=dt.date(2026, 1, 2)), {"at": "2026-01-02"}),
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02T03:04:00Z"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        ({1}, [1]),
        ((1, "a"), [1, "a"]),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (b"text", "text"),
    ],
)
def test_values_with_a_json_form(value: Any, expected: Any) -> None:
    assert decode(encode(value)) == expected


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [object(), lambda: 1, b"\xff", endless(), {"deep": [object()]}])
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(CodecError):
        encode(value)


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b"\xff", b"[1,]", b"'a'", b"1 2", b'{"a":1', b"[" * 100_000])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


@given(st.binary())
def test_any_bytes_are_data_or_a_codec_error(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode(data)


@given(plain.map(encode), st.integers(0, 200))
def test_compression_is_undone(data: bytes, threshold: int) -> None:
    packed = compress(data, threshold)
    assert decompress(packed, len(data)) == data
    assert len(packed) <= len(data)


def test_compression_only_over_the_threshold_and_only_if_it_helps() -> None:
    data = b'"' + b"x" * 1_000 + b'"'
    assert compress(data, len(data)) == data
    assert len(compress(data, len(data) - 1)) < 100
    short = b'"a9$k"'
    assert compress(short, 1) == short


def test_a_bomb_is_refused_at_the_limit() -> None:
    bomb = compress(b'"' + b"0" * 1_000_000 + b'"', 100)
    assert len(bomb) < 10_000
    with pytest.raises(CodecError, match="500000"):
        decompress(bomb, 500_000)
    assert len(decompress(bomb, 1_000_002)) == 1_000_002


@pytest.mark.parametrize(
    "data",
    [b"\x01", b"\x01not deflated", b"\x01" + zlib.compress(b"x" * 10_000)[:-6]],
    ids=["empty", "garbage", "cut off"],
)
def test_a_damaged_value_is_a_codec_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        decompress(data, 1_000_000)
