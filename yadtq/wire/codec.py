"""JSON in, JSON out, and nothing else: data on the wire is never code (D10).

Uses pydantic-core's parser and serialiser: a dependency anyway, and faster than the standard library's (0.4 µs
against 1.7 µs for a small task record on the machine of docs/performance.md).
"""

from __future__ import annotations

import zlib
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from yadtq.errors import YadtqError

__all__ = ["CodecError", "compress", "decode", "decompress", "encode", "refuse_unreadable"]

#: First byte of a compressed value. JSON never starts with it, so plain and compressed values need no other mark.
_ZLIB_MARK = b"\x01"
#: JSON with fewer brackets can't be nested deeper than the parser's limit (200), so it needs no check.
_DEEP = 150
#: The parser reads numbers of up to 4,300 digits; JSON with fewer digits in all has none that is longer.
_LONG = 4_300


class CodecError(YadtqError, ValueError):
    """The value has no JSON form, or the bytes are not JSON."""


def encode(value: Any) -> bytes:
    """JSON bytes of plain data, dataclasses, pydantic models, dates, UUIDs, decimals, enums and sets.

    Raises `CodecError` for anything else, for bytes that are not UTF-8 among them.
    """
    try:
        return to_json(value, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise CodecError(str(error)) from error


def decode(data: bytes) -> Any:
    """Plain data from JSON bytes. Raises `CodecError`."""
    try:
        return from_json(data)
    except ValueError as error:
        raise CodecError(str(error)) from error


def refuse_unreadable(json: bytes) -> None:
    """Raises `CodecError` for JSON that was written but can't be read: nested too deeply, or numbers that are too long."""
    size = len(json)
    if size <= 2 * _DEEP:
        return
    deep = json.count(b"[") + json.count(b"{") > _DEEP
    if deep or (size >= _LONG and size - len(json.translate(None, b"0123456789")) >= _LONG):
        try:
            decode(json)
        except CodecError as error:
            raise CodecError(
                f"no reader takes it ({error}): write long numbers as text, and pass a reference to deeply nested data"
            ) from None


def compress(data: bytes, threshold: int, level: int = 1) -> bytes:
    """`data`, deflated and marked if it is over `threshold` bytes and that makes it smaller. level: zlib's, 1 to 9."""
    if len(data) <= threshold:
        return data
    packed = _ZLIB_MARK + zlib.compress(data, level)
    return packed if len(packed) < len(data) else data


def decompress(data: bytes, limit: int) -> bytes:
    """Undo `compress`. `limit` bytes at most: a bomb raises `CodecError` instead of filling memory."""
    if not data.startswith(_ZLIB_MARK):
        return data
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data[1:], limit + 1)
    except zlib.error as error:
        raise CodecError(f"a compressed value is damaged: {error}") from error
    if len(plain) > limit:
        raise CodecError(f"a compressed value inflates to more than {limit} bytes")
    if not inflater.eof:
        raise CodecError("a compressed value is cut short")
    return plain
