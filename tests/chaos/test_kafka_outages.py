"""Kafka ends and hangs: submits wait or are in doubt, no task fails, none runs twice, no process is restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults import FreezeServer, RestartServer
from tests.chaos.test_redis_outages import BACK_S, outage

if TYPE_CHECKING:
    from tests.chaos.world import World


@pytest.mark.slow
@pytest.mark.kafka
async def test_a_restart(world: World) -> None:
    assert await outage(world, RestartServer("kafka", lasts_s=1.0)) < BACK_S
    assert world.repeated() == {}


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(150)
async def test_a_freeze_longer_than_every_timeout(world: World) -> None:
    assert await outage(world, FreezeServer("kafka", lasts_s=9.0)) < BACK_S
    assert world.repeated() == {}
