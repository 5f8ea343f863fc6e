"""Which ends of a worker process make suspects of its tasks."""

from __future__ import annotations

import signal

import pytest

from yadtq.supervisor.cause import came_from_outside


@pytest.mark.parametrize(
    ("code", "fields", "outside"),
    [
        (-signal.SIGKILL, {}, True),
        (-signal.SIGTERM, {}, True),
        (-signal.SIGHUP, {}, True),
        (0, {}, True),
        (2, {}, True),
        (69, {}, True),
        (1, {}, False),
        (3, {}, False),
        (70, {}, False),
        (-signal.SIGSEGV, {}, False),
        (-signal.SIGABRT, {}, False),
        (-signal.SIGALRM, {}, False),
        # The kernel took a process for want of memory: it may be the task's doing.
        (-signal.SIGKILL, {"out_of_memory": True}, False),
        # We killed it for its silence: a task may have blocked the loop.
        (-signal.SIGKILL, {"killed": True}, False),
        # We had asked it to stop, and it took too long, or fell over its own end.
        (-signal.SIGKILL, {"asked": True, "killed": True}, True),
        (-signal.SIGSEGV, {"asked": True}, True),
    ],
)
def test_what_may_have_come_from_outside(code: int, fields: dict[str, bool], outside: bool) -> None:
    given = {"asked": False, "killed": False, "out_of_memory": False, **fields}
    assert came_from_outside(code, **given) is outside
