"""What every background loop must stand: one function to call on each real service."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from yadtq.runtime.service import Service

    MakeService = Callable[[], Service | Awaitable[Service]]


async def exercise_service(make_service: MakeService, *, within_s: float = 5.0) -> None:
    """Drive fresh services through every order of start, stop and cancellation. Raises AssertionError.

    within_s: limit for each single step; a service that keeps a promise needs a fraction of it.
    """
    for drive in (_starts_and_stops, _stops_before_run, _stops_twice, _stops_while_starting, _is_cancelled):
        made = make_service()
        service = await made if inspect.isawaitable(made) else made
        assert service.name, "a service has a name: logs and errors carry it"
        try:
            with anyio.fail_after(within_s):
                await drive(service)
        except TimeoutError:
            raise AssertionError(f"service {service.name}: {drive.__name__[1:]} took over {within_s:g} s") from None


async def _starts_and_stops(service: Service) -> None:
    ended = anyio.Event()

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await service.run(task_status=task_status)
        ended.set()

    async with anyio.create_task_group() as group:
        await group.start(run)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert not ended.is_set(), f"service {service.name} ended though nobody had asked it to"
        assert service.stop() is None, f"service {service.name}: stop() does not wait"
    assert ended.is_set()


async def _stops_before_run(service: Service) -> None:
    service.stop()
    async with anyio.create_task_group() as group:
        # Not every service says "started" before it ends; but it must end, and without an error.
        group.start_soon(service.run)


async def _stops_twice(service: Service) -> None:
    async with anyio.create_task_group() as group:
        await group.start(_run(service))
        service.stop()
        service.stop()
    service.stop()


async def _stops_while_starting(service: Service) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(service.run)
        await anyio.lowlevel.checkpoint()
        service.stop()


async def _is_cancelled(service: Service) -> None:
    async with anyio.create_task_group() as group:
        await group.start(_run(service))
        group.cancel_scope.cancel()
    service.stop()


def _run(service: Service) -> Callable[..., Coroutine[Any, Any, None]]:
    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await service.run(task_status=task_status)

    return run
