"""The end of a client is the end of its connections, or nothing would close them when the loop ends with it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from yadtq.broker import aiokafka_life
from yadtq.broker.aiokafka_life import stopped


class Writer:
    """Of a TLS connection: closed when the other side has agreed, which is up to the test, or when it is aborted."""

    def __init__(self) -> None:
        self.transport = SimpleNamespace(abort=self.abort)
        self.ended = asyncio.Event()
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += not self.ended.is_set()
        self.ended.set()

    async def wait_closed(self) -> None:
        await self.ended.wait()


class Client:
    """As much of an aiokafka client as its end needs."""

    def __init__(self, *writers: Writer | None) -> None:
        self._client = SimpleNamespace(
            _conns={number: SimpleNamespace(_writer=writer) for number, writer in enumerate(writers)}
        )
        self.is_stopped = asyncio.Event()

    async def stop(self) -> None:
        self._client._conns.clear()  # it forgets them, and waits for none
        self.is_stopped.set()


async def test_a_stop_waits_for_the_connections() -> None:
    writer = Writer()
    client: Any = Client(writer, None)
    stopping = asyncio.create_task(stopped(client, 1.0))
    await client.is_stopped.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopping.done()
    writer.ended.set()
    await stopping
    assert not writer.aborted


async def test_a_connection_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka_life, "_CLOSED_S", 0.05)
    slow, fine = Writer(), Writer()
    fine.ended.set()
    client: Any = Client(slow, fine)
    async with asyncio.timeout(3):
        await stopped(client, 1.0)
    assert (slow.aborted, fine.aborted) == (1, 0)
