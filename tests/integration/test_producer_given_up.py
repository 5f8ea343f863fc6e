"""A producer that is given up in an outage leaves nothing behind, also when the outage ends at that very moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import Proxy
from yadtq.broker.producer import KafkaProducer
from yadtq.broker.topics import TopicNames, provision
from yadtq.errors import BrokerUnavailable
from yadtq.ports import OutRecord
from yadtq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.kafka_server import KafkaServer


@pytest.mark.kafka
@pytest.mark.parametrize("heals_after_s", [0.2, 0.9])
async def test_no_connection_is_made_after_its_end(
    kafka_server: Callable[..., KafkaServer], app_name: str, heals_after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yadtq.broker.producer._FLUSH_S", 0.1)
    kafka = kafka_server()
    async with Proxy(kafka.host, kafka.add_listener("producer")) as proxy:
        kafka.advertise("producer", proxy.address)
        await kafka.start()
        settings = Settings.load(kafka=proxy.address)
        names = TopicNames(app_name)
        await provision(settings, names, ["default"])
        producer = KafkaProducer(settings, timeout_s=0.3)
        await producer.start()
        record = OutRecord(names.tasks("default"), b"x")
        await producer.append([record])
        proxy.hold()
        with pytest.raises(BrokerUnavailable):
            await producer.append([record])
        given_up, producer._producer = producer._producer, None
        assert given_up is not None
        producer._end(given_up)
        await asyncio.sleep(heals_after_s)  # the moment is what the test is about
        proxy.heal()
        await producer.stop()
        connections = list(given_up.client._conns.values())
        assert [connection for connection in connections if connection.connected()] == []
