"""Every service of a worker keeps the contract, as it comes from the assembly, on doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.outside import memory_outside
from tests.support.service_contract import exercise_service
from yadtq import Yadtq
from yadtq.runtime.clock import SystemClock
from yadtq.settings import WorkerSettings
from yadtq.worker.worker import make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from yadtq.runtime.service import Service
    from yadtq.worker.assembly import Parts

    ServiceOf = Callable[[str], Callable[[], Awaitable[Service]]]

SERVICES = (
    "heartbeat",
    "watchdog",
    "collector",
    "quarantine",
    "parent",
    "subscription",
    "renewer",
    "membership",
    "committer",
    "truncator",
    "outbox",
    "completer",
    "submits",
    "versions",
    "executor",
    "unrunnable",
    "claimer",
    "rebuilder",
    "stragglers",
    "fetcher",
)


async def assembled() -> Parts:
    """A worker whose connections are made, as they are before its services are started."""
    options = WorkerSettings.load()
    outside = memory_outside(clock=SystemClock())
    worker = make_worker(Yadtq("t"), options, outside=outside, app_path="yadtq.examples:app")
    await outside.broker.provision(["default"], 2)
    await outside.store.start()
    await worker.parts.producer.start()
    return worker.parts


@pytest.fixture
async def service_of() -> AsyncIterator[ServiceOf]:
    made: list[Parts] = []

    def service_named(name: str) -> Callable[[], Awaitable[Service]]:
        async def make() -> Service:
            made.append(await assembled())
            (service,) = [service for service in made[-1].services if service.name == name]
            return service

        return make

    yield service_named
    for parts in made:
        await parts.consumer.stop()
        await parts.producer.stop()


async def test_all_are_here() -> None:
    assert sorted(service.name for service in (await assembled()).services) == sorted(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
async def test_it_keeps_the_contract(name: str, service_of: ServiceOf) -> None:
    await exercise_service(service_of(name))
