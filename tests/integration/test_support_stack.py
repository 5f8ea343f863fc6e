"""The session's servers answer, whichever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

if TYPE_CHECKING:
    from tests.support.stacks import Servers


@pytest.mark.smoke
async def test_both_servers_answer(stack: Servers, app_name: str) -> None:
    stack.only_plain()
    client = Redis.from_url(stack.redis, socket_timeout=5)
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    try:
        assert await client.ping()
        await admin.start()
        await admin.create_topics([NewTopic(f"yadtq.{app_name}.tasks.default", 1, 1)])
        assert f"yadtq.{app_name}.tasks.default" in await admin.list_topics()
    finally:
        await client.aclose()
        await admin.close()


@pytest.mark.kafka
async def test_a_test_marked_kafka_never_sees_a_stand_in(stack: Servers) -> None:
    assert stack.kind in ("kafka", "external")


def test_each_test_has_an_app_of_its_own(app_name: str) -> None:
    assert app_name.startswith("t-")
    assert len(app_name) == 10
