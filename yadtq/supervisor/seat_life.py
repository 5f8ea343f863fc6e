"""The life of a seat as a table: (state, event) → state. What is not in the table is a defect and raises. No I/O.

    DUE ──spawned──► STARTING ──ready──► RUNNING            a process lives
     ▲                   │ renew: RENEWING, retire: RETIRING, kill: KILLED or KILLED_RETIRING
     │ respawn           ▼
     └────────── the process has ended ──give_up──► GIVING_UP ──left──► GIVEN_UP ──renew──► DUE
                         │ emptied                     (renew before left: REVIVING ──left──► DUE)
                         ▼
                      LEAVING ──left──► GONE

GIVING_UP, REVIVING and LEAVING wait for the consumer group: the request to remove a member names the slot only, so a
successor that joined before the answer would be removed in its place.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ENDED", "LEAVING_GROUP", "LIVING", "TABLE", "WANTED", "IllegalMove", "SeatEvent", "SeatState", "make_table"]


class SeatState(Enum):
    """What a seat is now; each has its data in `Seat`."""

    DUE = "due"  # empty; a process is started at a known time
    STARTING = "starting"  # a process lives and has not reported yet that it runs
    RUNNING = "running"
    RENEWING = "renewing"  # asked to end; a successor follows
    RETIRING = "retiring"  # asked to end; none follows
    KILLED = "killed"  # SIGKILL is sent; what follows is decided when it has ended
    KILLED_RETIRING = "killed-retiring"  # SIGKILL is sent; no successor follows
    GIVING_UP = "giving-up"  # empty, no successor; its member is being removed from the group
    GIVEN_UP = "given-up"
    REVIVING = "reviving"  # given up and asked for again, while its member is still being removed
    LEAVING = "leaving"  # empty for good; its member is being removed
    GONE = "gone"


class SeatEvent(Enum):
    """What happens to a seat."""

    SPAWNED = "spawned"
    READY = "ready"
    RENEW = "renew"  # replace its process
    RETIRE = "retire"  # leave it empty
    KILL = "kill"
    RESPAWN = "respawn"  # the process has ended, or could not be started; a successor follows
    GIVE_UP = "give-up"  # the same, and none follows
    EMPTIED = "emptied"  # the process of a retired seat has ended
    LEFT = "left"  # its member is out of the group, or that was given up


class IllegalMove(RuntimeError):
    """A defect of the supervisor: an event that this state does not allow."""


def make_table(
    rows: Iterable[tuple[SeatState, SeatEvent, SeatState]],
) -> Mapping[tuple[SeatState, SeatEvent], SeatState]:
    """Raises ValueError if two rows are for one state and event, or if a state can't be reached or, but GONE, left."""
    table: dict[tuple[SeatState, SeatEvent], SeatState] = {}
    for before, event, after in rows:
        if (before, event) in table:
            raise ValueError(f"two rows for {event.value} in {before.value}")
        table[before, event] = after
    left = {before for before, _event in table}
    reached = {after for (before, _event), after in table.items() if after is not before} | {SeatState.DUE}
    for state in SeatState:
        if state not in reached:
            raise ValueError(f"no row leads to {state.value}")
    for state in SeatState:
        if (state in left) is (state is SeatState.GONE):
            raise ValueError(f"{state.value}: every state but gone has a way out, and gone has none")
    return table


_S, _E = SeatState, SeatEvent

TABLE = make_table(
    [
        (_S.DUE, _E.SPAWNED, _S.STARTING),
        (_S.DUE, _E.RENEW, _S.DUE),
        (_S.DUE, _E.RETIRE, _S.LEAVING),
        (_S.DUE, _E.RESPAWN, _S.DUE),
        (_S.DUE, _E.GIVE_UP, _S.GIVING_UP),
        (_S.STARTING, _E.READY, _S.RUNNING),
        (_S.STARTING, _E.RENEW, _S.RENEWING),
        (_S.STARTING, _E.RETIRE, _S.RETIRING),
        (_S.STARTING, _E.KILL, _S.KILLED),
        (_S.STARTING, _E.RESPAWN, _S.DUE),
        (_S.STARTING, _E.GIVE_UP, _S.GIVING_UP),
        (_S.RUNNING, _E.RENEW, _S.RENEWING),
        (_S.RUNNING, _E.RETIRE, _S.RETIRING),
        (_S.RUNNING, _E.KILL, _S.KILLED),
        (_S.RUNNING, _E.RESPAWN, _S.DUE),
        (_S.RUNNING, _E.GIVE_UP, _S.GIVING_UP),
        (_S.RENEWING, _E.RENEW, _S.RENEWING),
        (_S.RENEWING, _E.RETIRE, _S.RETIRING),
        (_S.RENEWING, _E.KILL, _S.KILLED),
        (_S.RENEWING, _E.RESPAWN, _S.DUE),
        (_S.RETIRING, _E.KILL, _S.KILLED_RETIRING),
        (_S.RETIRING, _E.EMPTIED, _S.LEAVING),
        (_S.KILLED, _E.RENEW, _S.KILLED),
        (_S.KILLED, _E.RETIRE, _S.KILLED_RETIRING),
        (_S.KILLED, _E.RESPAWN, _S.DUE),
        (_S.KILLED, _E.GIVE_UP, _S.GIVING_UP),
        (_S.KILLED_RETIRING, _E.EMPTIED, _S.LEAVING),
        (_S.GIVING_UP, _E.RENEW, _S.REVIVING),
        (_S.GIVING_UP, _E.RETIRE, _S.LEAVING),
        (_S.GIVING_UP, _E.LEFT, _S.GIVEN_UP),
        (_S.GIVEN_UP, _E.RENEW, _S.DUE),
        (_S.GIVEN_UP, _E.RETIRE, _S.GONE),
        (_S.REVIVING, _E.RENEW, _S.REVIVING),
        (_S.REVIVING, _E.RETIRE, _S.LEAVING),
        (_S.REVIVING, _E.LEFT, _S.DUE),
        (_S.LEAVING, _E.LEFT, _S.GONE),
    ]
)

#: A process lives in it.
LIVING = frozenset({_S.STARTING, _S.RUNNING, _S.RENEWING, _S.RETIRING, _S.KILLED, _S.KILLED_RETIRING})
#: Not on the way to be removed.
WANTED = frozenset(_S) - {_S.RETIRING, _S.KILLED_RETIRING, _S.LEAVING, _S.GONE}
#: No process lives in it, and none will unless somebody asks.
ENDED = frozenset({_S.GIVING_UP, _S.GIVEN_UP})
#: Exactly one request to remove its member is under way.
LEAVING_GROUP = frozenset({_S.GIVING_UP, _S.REVIVING, _S.LEAVING})
