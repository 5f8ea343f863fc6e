"""Messages between a worker and its child process: a header as JSON and a body of bytes, each with its length."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["frame", "read_frame"]

_LENGTHS = struct.Struct(">II")


def frame(header: dict[str, Any], body: bytes = b"") -> bytes:
    """As it is written into the pipe."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next one. Raises `asyncio.IncompleteReadError` at the end of the pipe."""
    text_size, body_size = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    text = await reader.readexactly(text_size)
    return json.loads(text), await reader.readexactly(body_size)
