"""A start that is broken off leaves no connection behind, whatever moment its deadline meets."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import Proxy
from yadtq.broker.membership import leave_group
from yadtq.broker.producer import KafkaProducer
from yadtq.broker.tail import read_recent
from yadtq.broker.topics import provision
from yadtq.errors import BrokerUnavailable
from yadtq.settings import Settings
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.stacks import Servers

NAMES = TopicNames("nobody")


async def produce(settings: Settings) -> None:
    producer = KafkaProducer(settings)
    await producer.start()
    await producer.stop()


STARTS: dict[str, Callable[[Settings], Awaitable[object]]] = {
    "admin": lambda settings: provision(settings, NAMES, ["default"]),
    "producer": produce,
    "tail": lambda settings: read_recent(settings, NAMES.heartbeats, 60, settings.connect_timeout_s),
    "membership": lambda settings: leave_group(settings, NAMES.group, ["a"]),
}


@pytest.mark.parametrize("what", STARTS)
async def test_no_connection_is_forgotten(stack: Servers, what: str) -> None:
    """The fixture `asyncio_errors` fails this test if aiokafka complains of one."""
    host, _, port = stack.kafka.rpartition(":")
    async with Proxy(host, int(port)) as proxy:
        proxy.delay(0.1)  # so that there is time between a request and its answer
        broken_off = 0
        for deadline_s in (0.05, 0.15, 0.25, 0.35, 0.45):
            try:
                await STARTS[what](Settings.load(kafka=proxy.address, connect_timeout_s=deadline_s))
            except BrokerUnavailable:
                broken_off += 1
            gc.collect()
            await asyncio.sleep(0)
        assert broken_off >= 4, "in the middle of each request"
