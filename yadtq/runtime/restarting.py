"""A service that is started again after it failed: for parts whose failure must not end the whole process.

The owner is told of each failure at once, so that no caller waits for an answer that the failed loop would have given.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import ServiceFailed, YadtqError
from yadtq.runtime.service import Service, first_cause

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.clock import Clock

__all__ = ["Restarting"]

log = logging.getLogger("yadtq.service")

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
#: After this long without a failure the back-off starts from the beginning.
_HEALTHY_S = 60.0


class Restarting(Service):
    """Runs `service`, and runs it again, with back-off, after it failed or ended by itself.

    Until it is ready for the first time a failure is raised: a process that can't start must say so. on_failure: gets
    every later one; it must not wait.
    """

    def __init__(
        self, service: Service, clock: Clock, chance: random.Random, *, on_failure: Callable[[ServiceFailed], None]
    ) -> None:
        self.name = service.name
        self._service = service
        self._clock = clock
        self._chance = chance
        self._on_failure = on_failure
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()
        self._service.stop()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Raises a `YadtqError` if the service fails before it is ready."""
        once = _Once(task_status)
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._service.run(task_status=once)
            except Exception as error:  # any failure: it must not end the process, nor leave a caller waiting
                cause = first_cause(error) if isinstance(error, BaseExceptionGroup) else error
                if not once.done and isinstance(cause, YadtqError):
                    raise cause from None
                failure = ServiceFailed(self.name, f"{type(cause).__name__}: {cause}")
                failure.__cause__ = cause
            else:
                if self._stopped.is_set():
                    return
                failure = ServiceFailed(self.name, "it ended by itself")
            if not once.done:
                raise failure
            failures = 1 if self._clock.monotonic() - began > _HEALTHY_S else failures + 1
            wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 20)) * self._chance.uniform(0.5, 1.0)
            log.error("%s (in %.1f s)", failure, wait_s, exc_info=failure.__cause__)
            self._on_failure(failure)
            with anyio.move_on_after(wait_s):
                await self._stopped.wait()


class _Once:
    """anyio refuses a second `started()`, and each further run calls it again."""

    def __init__(self, started: Started[None]) -> None:
        self._started = started
        self.done = False

    def started(self, value: None = None) -> None:
        if not self.done:
            self.done = True
            self._started.started(value)
