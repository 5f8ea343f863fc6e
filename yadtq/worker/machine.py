"""What a worker uses of the operating system: a pipe to its parent, a thread that watches the loop, threads, memory.

The simulation, where thousands of workers share a process, has none of these.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yadtq.execution.quarantine.quarantine import Quarantine, Unconfined
from yadtq.execution.quarantine.ward import Ward, child_command
from yadtq.execution.runners.threads import ThreadRunner
from yadtq.worker.collector import Collector
from yadtq.worker.facts import rss_bytes
from yadtq.worker.parent import Parent
from yadtq.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.execution.limits import Limits
    from yadtq.execution.quarantine.quarantine import Suspects
    from yadtq.outside import Outside
    from yadtq.runtime.service import Service
    from yadtq.settings import WorkerSettings

__all__ = ["Machine"]


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


#: Where the process was started, before a task could go elsewhere: the app may be found only from there.
_FOLDER = _folder()


@dataclass(frozen=True, slots=True)
class Machine:
    """parent: the pipe to the supervisor. suspects: runs tasks that were running when a worker died. services: others
    that only make sense here. threads: creates a runner with this many threads.
    """

    parent: Parent
    services: tuple[Service, ...] = ()
    suspects: Suspects = field(default_factory=Unconfined)
    threads: Callable[[int, Limits], ThreadRunner] = ThreadRunner
    rss_bytes: Callable[[], int] = rss_bytes

    @classmethod
    def this(
        cls, *, worker_id: str, pipe: str | None, app_path: str | None, outside: Outside, options: WorkerSettings
    ) -> Machine:
        """The real one. pipe: see `Parent`. app_path: `module:attribute`, for child processes; None: there are none."""
        watchdog = Watchdog(outside.clock, options.block_limit_s)
        if app_path is None:
            return cls(parent=Parent(pipe), services=(watchdog, Collector(rss_bytes)))
        command, environ, folder = child_command(app_path, worker_id), dict(os.environ), _FOLDER
        quarantine = Quarantine(
            make=lambda size: Ward(command=command, environ=environ, size=size, clock=outside.clock, folder=folder),
            clock=outside.clock,
        )
        return cls(parent=Parent(pipe), services=(watchdog, Collector(rss_bytes), quarantine), suspects=quarantine)
