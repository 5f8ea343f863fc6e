"""Whether the end of a worker process came from outside, so that its tasks have hardly caused it. No I/O."""

from __future__ import annotations

import signal

from yadtq.wire.exits import DRAINED, MISCONFIGURED, UNREACHABLE

__all__ = ["came_from_outside"]

#: Sent by people, deploys and hosts. A task can do it to its own process, too: then it does so again.
_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


def came_from_outside(code: int, *, asked: bool, killed: bool, out_of_memory: bool) -> bool:
    """code: exit status, or minus the signal. asked: we had asked it to end. killed: by us. out_of_memory: see `Process`."""
    if asked or code in (DRAINED, MISCONFIGURED, UNREACHABLE):
        return True
    if killed:
        return False  # for its silence: a task may have blocked its event loop
    return -code in _OUTSIDE and not out_of_memory
