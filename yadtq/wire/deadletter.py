"""Headers of a dead letter; its key and value are the original record's, byte for byte (docs/wire-format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEAD_LETTER_HEADERS", "DeadLetter", "DeadReason", "dead_letter"]


class DeadReason(StrEnum):
    """Why a record can't be run: the header `yadtq-reason`."""

    UNDECODABLE = "undecodable"  # it is no task
    FOREIGN_ID = "foreign-id"  # its id belongs to another task, or another queue: that one does not end with it
    UNKNOWN_TASK = "unknown-task"  # no worker knew the task's name in time
    CRASHED = "crashed"  # it has ended too many workers
    CORRUPT_STATE = "corrupt-state"  # what Redis held of it can't be read, so nobody knows whether it has ended

    @property
    def error(self) -> str:
        """The type of the error that the task ends FAILED with."""
        return _ERRORS[self]


_ERRORS = {
    DeadReason.UNDECODABLE: "Undecodable",
    DeadReason.FOREIGN_ID: "ForeignId",
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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be run. Text is as it was written, by whoever can write to the topic.

    reason: a `DeadReason`, or the word of a newer version. at: seconds since the epoch. task_id, task: None if the
    record could not be read. topic, partition, offset: of the original record. value: its bytes; cut if `size`, of the
    whole, is larger.
    """

    reason: str
    detail: str
    at: float
    task_id: str | None
    task: str | None
    topic: str
    partition: int
    offset: int
    worker: str
    size: int
    value: bytes


def dead_letter(headers: Sequence[tuple[str, bytes]], value: bytes | None, stamp_ms: int) -> DeadLetter:
    """From a record of the dead-letter topic. stamp_ms: the record's own time stamp, for a letter without one.

    Never raises: what is missing or damaged is empty, 0 or -1.
    """
    # The last one of a name: those of the original record come first.
    found = {name: text.decode(errors="replace") for name, text in headers}
    value = value or b""
    return DeadLetter(
        reason=found.get("yadtq-reason", ""),
        detail=found.get("yadtq-detail", ""),
        at=_number(found.get("yadtq-at"), stamp_ms) / 1000,
        task_id=found.get("yadtq-task-id"),
        task=found.get("yadtq-task"),
        topic=found.get("yadtq-topic", ""),
        partition=_number(found.get("yadtq-partition"), -1),
        offset=_number(found.get("yadtq-offset"), -1),
        worker=found.get("yadtq-worker", ""),
        size=_number(found.get("yadtq-size"), len(value)),
        value=value,
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and len(text) <= 18 and text.isascii() and text.isdigit() else default
