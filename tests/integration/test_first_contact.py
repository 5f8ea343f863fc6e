"""What a start says, and how long it waits, where a server is not as it should be."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.poll import eventually
from tests.support.ports import reserve_port
from yadtq.broker.kafka import KafkaBroker
from yadtq.errors import BrokerUnavailable, ConfigError
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.kafka_server import KafkaServer
    from tests.support.stacks import Servers


def broker(app: str, **given: object) -> KafkaBroker:
    return KafkaBroker(Settings.load(**given), TopicNames(app), SystemClock())


async def test_a_port_where_nobody_is_is_tried_until_the_deadline(app_name: str) -> None:
    nobody = broker(app_name, kafka=f"127.0.0.1:{reserve_port()}", connect_timeout_s=1.5)
    begun = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="is it running"):
        await nobody.provision(["default"])
    assert 1.4 < time.monotonic() - begun < 5


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_server_that_starts_later_is_waited_for(
    kafka_server: Callable[..., KafkaServer], app_name: str
) -> None:
    kafka = kafka_server()
    early = broker(app_name, kafka=kafka.address, connect_timeout_s=40)
    provisioning = asyncio.ensure_future(early.provision(["default"]))
    await asyncio.sleep(0)
    await kafka.start()
    await provisioning


@pytest.mark.kafka
@pytest.mark.slow
async def test_an_advertised_address_that_leads_nowhere_is_named(
    kafka_server: Callable[..., KafkaServer], app_name: str
) -> None:
    nowhere = f"127.0.0.1:{reserve_port()}"
    kafka = kafka_server(advertised=nowhere)
    await kafka.start()
    lost = broker(app_name, kafka=kafka.address, connect_timeout_s=3)
    with pytest.raises(BrokerUnavailable, match=nowhere) as error:
        await lost.provision(["default"])
    assert "advertised.listeners" in str(error.value)


async def test_a_session_timeout_that_the_brokers_refuse_is_named(stack: Servers, app_name: str) -> None:
    short = broker(app_name, kafka=stack.kafka, session_timeout_s=3_000)
    await short.provision(["default"])
    consumer = short.consumer([TopicNames(app_name).tasks("default")])
    with pytest.raises(ConfigError, match="session_timeout_s"):
        await consumer.start(lambda assignment: None, dict)


async def test_another_kind_of_client_keeps_the_workers_out_by_name(stack: Servers, app_name: str) -> None:
    from aiokafka import AIOKafkaConsumer

    names = TopicNames(app_name)
    ours = broker(app_name, kafka=stack.kafka, session_timeout_s=6)
    await ours.provision(["default"])
    guest = AIOKafkaConsumer(names.tasks("default"), bootstrap_servers=stack.kafka, group_id=names.group)
    await guest.start()
    try:
        await eventually(lambda: guest.assignment(), what="the guest's place")
        consumer = ours.consumer([names.tasks("default")])
        with pytest.raises(ConfigError, match="consumer group"):
            await consumer.start(lambda assignment: None, dict)
    finally:
        await guest.stop()
