"""Where a member begins to read a partition: a pure decision.

A commit of a worker carries the identity of its log. So an offset of a deleted log is recognised, even if it was
committed into the log that replaced it. An offset that another program has set is recognised, too.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Commit", "Start", "Where", "is_of_log", "mark_of", "start_of"]

_MARK = "yadtq log="


class Commit(NamedTuple):
    """What the group has committed in a partition. offset: -1 if it has not."""

    offset: int
    metadata: str = ""


class Where(Enum):
    COMMITTED = "committed"  # as the group has it, or the first record if it has nothing
    EARLIEST = "earliest"
    OFFSET = "offset"


class Start(NamedTuple):
    """offset: with `Where.OFFSET`. problem: for an ERROR line. note: for a WARNING line."""

    where: Where
    offset: int = -1
    problem: str = ""
    note: str = ""


def mark_of(log_id: str) -> str:
    """The metadata of a commit in this log."""
    return f"{_MARK}{log_id}" if log_id else ""


def is_of_log(metadata: str, log_id: str) -> bool:
    """False: what was committed with this metadata belongs to a deleted log."""
    return not metadata.startswith(_MARK) or metadata == mark_of(log_id)


def start_of(commit: Commit, log_id: str, *, known_id: str = "", ours: int | None = None) -> Start:
    """log_id: of the log as it is, "" if nobody can tell. known_id, ours: what this member had there just before the
    rebalance: the identity of its log, and the highest offset that it has committed.
    """
    replaced = bool(known_id and log_id and known_id != log_id)
    owner = commit.metadata.removeprefix(_MARK) if commit.metadata.startswith(_MARK) else None
    if replaced or (owner is not None and log_id and owner != log_id and commit.offset >= 0):
        return Start(
            Where.EARLIEST,
            problem="its topic was deleted and made again: reading it from its first record; what was left in the old one "
            "is lost",
        )
    if commit.offset < 0 or owner is not None or not log_id:
        return Start(Where.COMMITTED)
    if ours is not None and commit.offset > ours:
        problem = (
            f"the offset {commit.offset} was committed by a program that is no worker (who else is in this group?): "
            f"going on at {ours}"
        )
        return Start(Where.OFFSET, ours, problem=problem)
    return Start(Where.COMMITTED, note=f"beginning at {commit.offset}, which another program has set")
