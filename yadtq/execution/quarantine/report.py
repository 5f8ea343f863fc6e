"""What the end of a child process shows about the task that ran in it. No I/O."""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["PROOFS", "CrashReport", "proofs_needed"]

#: A process raises these itself; from outside they are only sent on purpose.
_SELF_INFLICTED = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
)
#: How often a task has to be alone in a child that died of a cause that may have come from outside (an operator, a host
#: that is short of memory).
PROOFS = 3
_STACK_CHARS = 4_000
#: What asyncio reports if another waited for the process: a task that calls `os.wait()` or ignores SIGCHLD.
_UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class CrashReport:
    """code: exit status, or minus the signal. rss_bytes: memory at its last sign of life, which was silent_s before its
    end.

    stack: what faulthandler wrote, if it could. ran_s: how long the task had been running.
    """

    code: int
    rss_bytes: int
    silent_s: float
    ran_s: float
    stack: str = ""

    def __str__(self) -> str:
        if self.code < 0:
            try:
                how = f"was ended by {signal.Signals(-self.code).name}"
            except ValueError:
                how = f"was ended by signal {-self.code}"
        else:
            how = f"ended with exit status {self.code}"
        text = (
            f"the process in which it ran alone {how} after {self.ran_s:.1f} s"
            f" (memory {self.rss_bytes / 2**20:.0f} MB, last heard of {self.silent_s:.1f} s before)"
        )
        return f"{text}\n{self.stack[-_STACK_CHARS:]}" if self.stack else text


def proofs_needed(report: CrashReport) -> int:
    """How many deaths like this one, alone each time, show that the task is the cause."""
    return 1 if 0 <= report.code != _UNKNOWN or -report.code in _SELF_INFLICTED else PROOFS
