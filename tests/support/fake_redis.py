"""A server that speaks Redis's protocol (RESP2) and answers any command with whatever the test likes.

For the question what a client makes of answers that no Redis gives: another server at the address, a broken proxy, a
connection that is out of step.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CLOSE", "SILENCE", "FakeRedis", "reply"]

#: Answers that are none: the connection ends; nothing comes.
CLOSE, SILENCE = object(), object()

#: What is sent for a command: bytes as they are, or bytes and CLOSE, or one of these two.
Answer = bytes | tuple[bytes, object] | object
_Value = bytes | int | str | None | list["_Value"] | BaseException


def reply(value: _Value) -> bytes:
    """RESP2 of a value. str: a simple string; an exception: an error reply with its text."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, BaseException):
        return b"-" + str(value).encode(errors="replace").replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"
    if isinstance(value, str):
        return b"+" + value.encode(errors="replace").replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(reply, value))


class FakeRedis:
    """answer: settable; from the words of a command to what is sent for it."""

    def __init__(self, answer: Callable[[list[bytes]], Answer]) -> None:
        self.answer = answer
        self.commands = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    answer = self.answer(await _command(reader))
                    self.commands += 1
                    answer, then = answer if isinstance(answer, tuple) else (answer, None)
                    if isinstance(answer, bytes):
                        writer.write(answer)
                        await writer.drain()
                    if CLOSE in (answer, then):
                        writer.close()
                        return
        finally:
            writer.close()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    """An array of strings, as every client sends one."""
    words = []
    for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words
