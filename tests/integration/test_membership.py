"""Static members removed by name: the others take over at once, on every broker we speak to."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer

from tests.support.poll import eventually
from tests.support.ports import reserve_port
from yadtq.broker.connecting import connection_options
from yadtq.broker.membership import leave_group
from yadtq.broker.topics import provision
from yadtq.errors import BrokerUnavailable
from yadtq.settings import Settings
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from tests.support.stacks import Servers

SESSION_S = 10


async def member(settings: Settings, names: TopicNames, instance_id: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        names.tasks("default"),
        **connection_options(settings),
        group_id=names.group,
        group_instance_id=instance_id,
        session_timeout_ms=SESSION_S * 1000,
        heartbeat_interval_ms=200,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    return consumer


@pytest.mark.smoke
async def test_partitions_of_a_removed_member_move_at_once(stack: Servers, app_name: str) -> None:
    settings, names = Settings.load(kafka=stack.kafka, redis=stack.redis), TopicNames(app_name)
    await provision(settings, names, ["default"])
    async with AsyncExitStack() as cleanup:
        consumers = [await member(settings, names, f"host.{app_name}.slot-{n}") for n in range(3)]
        for consumer in consumers:
            cleanup.push_async_callback(consumer.stop)
        staying, going = consumers[:2], consumers[2]
        await eventually(
            lambda: sorted(len(each.assignment()) for each in consumers) == [1, 1, 2], timeout=30, what="all joined"
        )
        # Its stop is the silence of a dead process: static members don't say good-bye.
        await going.stop()
        begun = time.monotonic()
        await leave_group(settings, names.group, [f"host.{app_name}.slot-2", f"host.{app_name}.never-there"])
        await eventually(
            lambda: sum(len(each.assignment()) for each in staying) == 4, timeout=SESSION_S / 2, what="take-over"
        )
        assert time.monotonic() - begun < SESSION_S / 2


async def test_a_group_that_does_not_exist_is_left_already(stack: Servers, app_name: str) -> None:
    settings = Settings.load(kafka=stack.kafka, redis=stack.redis)
    await leave_group(settings, f"yadtq.{app_name}.unknown", ["host.slot-0"])


async def test_no_ids_is_no_request() -> None:
    await leave_group(Settings.load(kafka="127.0.0.1:1"), "group", [])


async def test_an_unreachable_broker_is_a_typed_error_in_time() -> None:
    settings = Settings.load(kafka=f"127.0.0.1:{reserve_port()}")
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable, match="slot-0"):
            await leave_group(settings, "group", ["slot-0"], timeout_s=0.5)
