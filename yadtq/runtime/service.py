"""The lifecycle contract of every background loop, and the runner that keeps it.

A service is started once, says when it is ready, runs until `stop()`, and returns after it has finished what it holds.
After a failure `run` may be called again: see `runtime/restarting.py`. `stop()` may be called before `run()`, twice, or
never; it does not wait. Cancellation stops a service without waiting for what it holds. A service that ends by itself
or raises ends all of them, with its name in the log: a worker without its heartbeat or its committer must not continue.

Each service belongs to a stage. Work flows from the first stage to the last, so a process starts its services from the
last stage to the first and drains them from the first to the last: a receiver is started before its senders.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup
    from anyio.abc import TaskStatus as Started

__all__ = ["Periodic", "Service", "ServiceEnded", "Stage", "first_cause", "start_services"]

log = logging.getLogger("yadtq.service")

_FAILURES_IN_A_ROW = 10


class Stage(IntEnum):
    """What a service's work has to wait for at the end: all stages before its own are drained first."""

    INTAKE = 1  # fetch nothing more
    CLAIM = 2  # claim nothing more
    RUN = 3  # running tasks end, or are cancelled
    OUTCOME = 4  # how they ended is stored
    OUTBOX = 5  # what must be in Kafka is there
    COMMIT = 6  # the last commit
    RESOURCES = 7  # what tasks share is closed
    MEMBERSHIP = 8  # the place in the group is given up
    REPORT = 9  # the last heartbeat


class ServiceEnded(RuntimeError):
    """A service returned though nobody had asked it to."""


class Service(ABC):
    """A background loop."""

    #: For logs.
    name: str
    stage: ClassVar[Stage] = Stage.REPORT

    @abstractmethod
    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start, call `task_status.started()`, and work until `stop()`."""

    @abstractmethod
    def stop(self) -> None:
        """Ask `run` to finish what it holds and return. Never waits."""

    async def drained(self) -> None:  # noqa: B027 - most services hold nothing
        """Accept nothing more, and return when the service holds nothing that must not be lost. Called before `stop`,
        under a deadline.
        """

    def hurry(self) -> None:  # noqa: B027 - most services can't be any faster
        """The deadline of `drained` has passed: cancel what can be cancelled. `drained` is then called once more."""


class Periodic(Service):
    """A service that calls `tick` every `interval_s` seconds, from the start or after a first wait."""

    at_once: ClassVar[bool] = False

    def __init__(self) -> None:
        self._stopped = anyio.Event()
        #: Rounds that failed in a row.
        self.failures = 0

    @abstractmethod
    def interval_s(self) -> float:
        """Until the next `tick`; asked before each wait."""

    @abstractmethod
    async def tick(self) -> None:
        """One round. It handles temporary errors itself; an error that it raises is logged, and the next round is
        tried.
        """

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        wait = not self.at_once
        while not self._stopped.is_set():
            if wait:
                with anyio.move_on_after(self.interval_s()):
                    await self._stopped.wait()
                    return
            wait = True
            await self._try_tick()

    async def _try_tick(self) -> None:
        try:
            await self.tick()
        except Exception:
            # A defect of ours, or an unexpected answer: one round is lost. A loop that always fails ends its process,
            # because work that the process needs is not done.
            self.failures += 1
            if self.failures >= _FAILURES_IN_A_ROW:
                raise
            log.exception("a round of service %s failed; it continues", self.name)
        else:
            self.failures = 0


class _Stopping(Protocol):
    def __call__(self) -> bool: ...


async def start_services(group: TaskGroup, services: Sequence[Service], stopping: _Stopping) -> None:
    """Start `services` in order in `group`, each after the one before is ready.

    stopping: tells whether an end is expected. An unexpected one raises `ServiceEnded` in the group.
    """

    async def watched(service: Service, *, task_status: Started[None]) -> None:
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
    """The first exception in a group that is not a group itself: the cause to show when one part failed and ended the
    rest.
    """
    for error in errors.exceptions:
        return first_cause(error) if isinstance(error, BaseExceptionGroup) else error
    return errors
