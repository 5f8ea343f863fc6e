"""Whether a worker process was ended from outside, so that its tasks are unlikely to be the cause. No I/O."""

from __future__ import annotations

import signal

from yadtq.wire.exits import DRAINED, MISCONFIGURED, UNREACHABLE

__all__ = ["came_from_outside"]

#: Sent by operators, deploys and hosts. A task can also send it to its own process: then it will do so again.
_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


def came_from_outside(code: int, *, asked: bool, killed: bool, out_of_memory: bool) -> bool:
    """code: exit status, or minus the signal. asked: we had asked it to stop. killed: by us. out_of_memory: see
    `Process`.
    """
    if asked or code in (DRAINED, MISCONFIGURED, UNREACHABLE):
        return True
    if killed:
        return False  # for its silence: a task may have blocked its event loop
    return -code in _OUTSIDE and not out_of_memory
