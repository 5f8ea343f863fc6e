"""What a worker takes from the operating system: a line to its parent, a thread that watches the loop, threads, memory.

The simulation, where thousands of workers share a process, has none of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from yadtq.execution.runners.threads import ThreadRunner
from yadtq.worker.facts import rss_bytes
from yadtq.worker.parent import Parent
from yadtq.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.execution.limits import Limits
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.service import Service
    from yadtq.settings import WorkerSettings

__all__ = ["Machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """parent: the line to the supervisor. services: others that only make sense here. threads: made for so many at once."""

    parent: Parent
    services: tuple[Service, ...] = ()
    threads: Callable[[int, Limits], ThreadRunner] = ThreadRunner
    rss_bytes: Callable[[], int] = rss_bytes

    @classmethod
    def this(cls, *, pipe: str | None, clock: Clock, options: WorkerSettings) -> Machine:
        """The real one. pipe: see `Parent`."""
        return cls(parent=Parent(pipe), services=(Watchdog(clock, options.block_limit_s),))
