"""The exit statuses of a worker process. The supervisor decides by them what follows."""

from __future__ import annotations

__all__ = ["BLOCKED", "DRAINED", "FAILED", "MISCONFIGURED", "UNREACHABLE", "describe_exit"]

DRAINED = 0
#: A part of the worker failed.
FAILED = 1
#: Wrong settings or arguments: another process would end the same way.
MISCONFIGURED = 2
#: Kafka or Redis could not be reached, or what the app's lifespan opens (EX_UNAVAILABLE of sysexits.h). Never the fault
#: of the worker or its slot.
UNREACHABLE = 69
#: The watchdog ended it: its event loop was blocked for too long (EX_SOFTWARE).
BLOCKED = 70


def describe_exit(code: int) -> str:
    """For messages: `exit 70`, `signal 9`. code: minus the signal if one ended the process."""
    return f"signal {-code}" if code < 0 else f"exit {code}"
