"""The life of a task: states, and the only transitions there are.

Lua holds the same table in its scripts; a test drives every (state, verb) pair against this one.

    submit ──► QUEUED ──claim──► IN_PROGRESS ──finish──► SUCCESS | FAILED | CANCELLED
                  ▲                  │   ▲
                  └────release───────┤   └──claim── RETRYING (when due)
                                     └──finish(retry)──► RETRYING

A claim from IN_PROGRESS is a take-over: the lease ended, or its holder is known to be dead.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FINAL", "STATE_OF_CODE", "TRANSITIONS", "TaskStatus"]


class TaskStatus(StrEnum):
    """States that users see. `code` is the letter stored in Redis, one byte a task."""

    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    RETRYING = "RETRYING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def code(self) -> str:
        return _CODES[self]

    @property
    def final(self) -> bool:
        """A final state never changes."""
        return self in FINAL


_CODES = {
    TaskStatus.SCHEDULED: "D",
    TaskStatus.QUEUED: "Q",
    TaskStatus.IN_PROGRESS: "I",
    TaskStatus.RETRYING: "R",
    TaskStatus.SUCCESS: "S",
    TaskStatus.FAILED: "F",
    TaskStatus.CANCELLED: "C",
}
STATE_OF_CODE = {code: status for status, code in _CODES.items()}
FINAL = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED})

_S = TaskStatus
#: (state or None for absent, verb) -> states the verb may lead to. A pair that is missing leaves the task as it is.
TRANSITIONS: dict[tuple[TaskStatus | None, str], frozenset[TaskStatus]] = {
    (None, "register"): frozenset({_S.QUEUED}),
    (None, "claim"): frozenset({_S.IN_PROGRESS}),
    (_S.QUEUED, "claim"): frozenset({_S.IN_PROGRESS}),
    (_S.RETRYING, "claim"): frozenset({_S.IN_PROGRESS}),
    (_S.IN_PROGRESS, "claim"): frozenset({_S.IN_PROGRESS}),
    (_S.IN_PROGRESS, "finish"): frozenset({_S.SUCCESS, _S.FAILED, _S.CANCELLED, _S.RETRYING}),
    (_S.IN_PROGRESS, "release"): frozenset({_S.QUEUED}),
    # After Redis lost its data: from the attempt that ran all the while, if nobody has claimed the task since.
    (None, "finish"): frozenset({_S.SUCCESS, _S.FAILED, _S.CANCELLED, _S.RETRYING}),
    (None, "renew"): frozenset({_S.IN_PROGRESS}),
    (_S.QUEUED, "finish"): frozenset({_S.SUCCESS, _S.FAILED, _S.CANCELLED, _S.RETRYING}),
    (_S.QUEUED, "renew"): frozenset({_S.IN_PROGRESS}),
}
