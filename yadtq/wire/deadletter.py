"""Headers of a dead letter; its key and value are the original record's, byte for byte (docs/wire-format.md)."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["DEAD_LETTER_HEADERS", "DeadReason"]


class DeadReason(StrEnum):
    """Why a record can't be run: the header `yadtq-reason`."""

    UNDECODABLE = "undecodable"  # it is no task
    UNKNOWN_TASK = "unknown-task"  # no worker knew the task's name in time
    CRASHED = "crashed"  # it has ended too many workers
    CORRUPT_STATE = "corrupt-state"  # what Redis held of it can't be read, so nobody knows whether it has ended

    @property
    def error(self) -> str:
        """The type of the error that the task ends FAILED with."""
        return _ERRORS[self]


_ERRORS = {
    DeadReason.UNDECODABLE: "Undecodable",
    DeadReason.UNKNOWN_TASK: "UnknownTask",
    DeadReason.CRASHED: "WorkerCrashed",
    DeadReason.CORRUPT_STATE: "CorruptState",
}

DEAD_LETTER_HEADERS = (
    "yadtq-reason",  # a DeadReason
    "yadtq-detail",
    "yadtq-topic",
    "yadtq-partition",
    "yadtq-offset",
    "yadtq-timestamp",  # of the original record, ms since the epoch
    "yadtq-task-id",
    "yadtq-task",
    "yadtq-worker",
    "yadtq-at",  # ms since the epoch
    "yadtq-size",  # of the original value in bytes, if it was too large to be kept whole
    "yadtq-sha256",  # of the original value, in that case
)
