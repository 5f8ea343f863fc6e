"""The lifecycle contract of every background loop, and the runner that keeps it.

A service is started once, says when it is ready, runs until `stop()`, and returns after it has finished what it holds.
`stop()` may come before `run()`, twice, or never; it does not wait. Cancellation is the impatient form of stop.
A service that ends by itself or raises ends them all, with its name in the log: a worker without its heartbeat, or
without its committer, must not go on as if nothing were wrong.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup, TaskStatus

__all__ = ["Service", "ServiceEnded", "first_cause", "start_services"]

log = logging.getLogger("yadtq.service")


class ServiceEnded(RuntimeError):
    """A service returned though nobody had asked it to."""


class Service(Protocol):
    """A background loop."""

    @property
    def name(self) -> str: ...

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start, call `task_status.started()`, and work until `stop()`."""
        ...

    def stop(self) -> None:
        """Ask `run` to finish what it holds and return. Never waits."""
        ...


class _Stopped(Protocol):
    def __call__(self) -> bool: ...


async def start_services(group: TaskGroup, services: Sequence[Service], stopping: _Stopped) -> None:
    """Start `services` in order in `group`, each after the one before is ready.

    stopping: tells whether an end is expected. An unexpected one raises `ServiceEnded` in the group.
    """

    async def watched(service: Service, *, task_status: TaskStatus[None]) -> None:
        try:
            await service.run(task_status=task_status)
        except Exception:  # only to name the service: the group ends by it
            log.exception("service %s failed", service.name)
            raise
        if not stopping():
            log.error("service %s ended by itself", service.name)
            raise ServiceEnded(service.name)

    for service in services:
        await group.start(watched, service, name=f"yadtq-{service.name}")


def first_cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group that is none: what a person wants to read when one part failed and ended the rest."""
    for error in errors.exceptions:
        return first_cause(error) if isinstance(error, BaseExceptionGroup) else error
    return errors
