"""The life of a delivery as a table: the places it may be in, and the allowed moves between them.

Two machines run side by side. The *offset* of a record is held until nothing needs the record any more, then released,
exactly once. The *place* of its delivery names the part of the worker that has it now. They are independent where a
straggler is moved: its copy is at the tail of the log, so its offset is released while its task runs on.

Tests and the simulation check every move against the table (`checked.py`) and the conservation laws (`audit.py`); in
production a move is the write of one attribute.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["LIFE", "MOVES", "Move", "Place"]


class Place(Enum):
    """Which part of the worker has a delivery."""

    RECEIVED = "received"  # the fetcher, which has just decoded it
    WAITING = "waiting"  # the waiting room: it may be claimed when its turn comes
    PARKED = "parked"  # the waiting room, until a time
    GATED = "gated"  # the waiting room, until something happens (a suspect ends, a thread is free, its task ends here)
    CLAIMING = "claiming"  # the claimer: a claim is on its way
    RUNNING = "running"  # the executor has an attempt of it
    STORING = "storing"  # the completer has an outcome of it
    OUTBOX = "outbox"  # the outbox: something must be in Kafka first
    RELEASED = "released"  # nobody: its offset may be committed
    DROPPED = "dropped"  # nobody: its partition is another worker's, and so is the record


class Move(NamedTuple):
    """One way from a place to another. offset, slot, lease: what the delivery has afterwards."""

    place: Place
    event: str
    then: Place
    offset: str = "held"
    slot: str = "-"
    lease: str = "-"


P = Place
LIFE = (
    Move(P.RECEIVED, "a task", P.WAITING),
    Move(P.RECEIVED, "undecodable", P.OUTBOX),
    Move(P.WAITING, "its turn", P.CLAIMING, slot="reserved"),
    Move(P.WAITING, "a gate says: not before a time", P.PARKED),
    Move(P.WAITING, "a gate says: not before an event", P.GATED),
    Move(P.WAITING, "a gate says: another worker can run it", P.OUTBOX),
    Move(P.PARKED, "due, or woken by a death or a loss of data", P.WAITING),
    Move(P.GATED, "the event", P.WAITING),
    Move(P.CLAIMING, "granted", P.RUNNING, slot="taken", lease="held"),
    Move(P.CLAIMING, "granted, but it can't be run", P.OUTBOX, lease="held"),
    Move(P.CLAIMING, "the task has ended", P.RELEASED, offset="released"),
    Move(P.CLAIMING, "the task has ended, and something follows", P.OUTBOX),
    Move(P.CLAIMING, "its id belongs to another task", P.OUTBOX),
    Move(P.CLAIMING, "leased by another, or not due", P.PARKED),
    Move(P.CLAIMING, "its task runs here", P.GATED),
    Move(P.CLAIMING, "refused as a suspect, or Redis is away", P.WAITING),
    Move(P.RUNNING, "returned, raised or stopped", P.STORING, lease="held"),
    Move(P.RUNNING, "its child process died, and that is proof", P.OUTBOX, lease="held"),
    Move(P.STORING, "stored: final", P.RELEASED, offset="released"),
    Move(P.STORING, "stored: final, and something follows", P.OUTBOX),
    Move(P.STORING, "stored: to be tried again; fenced; stopped", P.PARKED),
    Move(P.OUTBOX, "acknowledged by Kafka", P.RELEASED, offset="released"),
    Move(P.OUTBOX, "dead letter acknowledged, the task ends FAILED", P.STORING, lease="held"),
    Move(P.WAITING, "its partition was lost", P.DROPPED, offset="lost"),
    Move(P.PARKED, "its partition was lost", P.DROPPED, offset="lost"),
    Move(P.GATED, "its partition was lost", P.DROPPED, offset="lost"),
)
MOVES = frozenset((move.place, move.then) for move in LIFE)
