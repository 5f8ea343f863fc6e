"""What every background loop must stand: one function to call on each real service."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from yadtq.runtime.service import Service

    MakeService = Callable[[], Service | Awaitable[Service]]

#: A stop or a cancellation comes after so many steps of the loop, each in turn: every await of a start is met.
STEPS = range(12)


async def exercise_service(make_service: MakeService, *, within_s: float = 5.0) -> None:
    """Drive fresh services through every order of start, drain, stop and cancellation. Raises AssertionError.

    within_s: limit for each single step; a service that keeps a promise needs a fraction of it.
    """
    for drive in _drives():
        made = make_service()
        service = await made if inspect.isawaitable(made) else made
        assert service.name, "a service has a name: logs and errors carry it"
        try:
            with anyio.fail_after(within_s):
                await drive(service)
        except TimeoutError:
            what = getattr(drive, "func", drive).__name__[1:]
            raise AssertionError(f"service {service.name}: {what} took over {within_s:g} s") from None


def _drives() -> list[Callable[[Service], Coroutine[Any, Any, None]]]:
    return [
        _starts_and_stops,
        _stops_before_run,
        _stops_twice,
        _is_drained,
        _is_hurried,
        *(partial(_stops_after, steps) for steps in STEPS),
        *(partial(_is_cancelled_after, steps) for steps in STEPS),
        _is_stopped_by_many,
    ]


async def _starts_and_stops(service: Service) -> None:
    ended = anyio.Event()

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await service.run(task_status=task_status)
        ended.set()

    async with anyio.create_task_group() as group:
        await group.start(run)
        await _steps(20)
        assert not ended.is_set(), f"service {service.name} ended though nobody had asked it to"
        service.stop()
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


async def _is_drained(service: Service) -> None:
    async with anyio.create_task_group() as group:
        await group.start(_run(service))
        await _steps(5)
        await service.drained()  # it holds nothing, so this must not take long
        await service.drained()
        service.stop()


async def _is_hurried(service: Service) -> None:
    async with anyio.create_task_group() as group:
        await group.start(_run(service))
        service.hurry()
        await service.drained()
        service.stop()
    service.hurry()


async def _stops_after(steps: int, service: Service) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(service.run)
        await _steps(steps)
        service.stop()


async def _is_cancelled_after(steps: int, service: Service) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(service.run)
        await _steps(steps)
        group.cancel_scope.cancel()
    service.stop()


async def _is_stopped_by_many(service: Service) -> None:
    async def stop_after(steps: int) -> None:
        await _steps(steps)
        service.stop()

    async with anyio.create_task_group() as group:
        for steps in STEPS:
            group.start_soon(stop_after, steps)
        await group.start(_run(service))


async def _steps(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


def _run(service: Service) -> Callable[..., Coroutine[Any, Any, None]]:
    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await service.run(task_status=task_status)

    return run
