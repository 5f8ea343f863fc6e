"""A seat has one state, and changes it only as its table allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.supervisor.respawn import CrashHistory
from yadtq.supervisor.seams import Slot
from yadtq.supervisor.seat import Seat
from yadtq.supervisor.seat_life import (
    ENDED,
    LEAVING_GROUP,
    LIVING,
    TABLE,
    WANTED,
    IllegalMove,
    SeatEvent,
    SeatState,
    make_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [(before, event, after) for (before, event), after in TABLE.items()]


class FakeProcess:
    out_of_memory = False

    def __init__(self, worker: str = "w") -> None:
        self.worker, self.pid = worker, 1

    def signal(self, signum: int) -> None: ...

    def kill(self) -> None: ...

    async def ended(self) -> int:
        raise NotImplementedError


def new_seat(on_leaving: Callable[[Seat], None] = lambda _: None) -> Seat:
    return Seat(Slot(0, "slot-0"), CrashHistory(60), due=0.0, on_leaving=on_leaving)


EVENTS: dict[SeatEvent, Callable[[Seat], Any]] = {
    SeatEvent.SPAWNED: lambda seat: seat.spawned(FakeProcess(), 1.0),
    SeatEvent.READY: lambda seat: seat.ready(),
    SeatEvent.RENEW: lambda seat: seat.renew(1.0, 2.0),
    SeatEvent.RETIRE: lambda seat: seat.retire(2.0),
    SeatEvent.KILL: lambda seat: seat.killed("silent"),
    SeatEvent.RESPAWN: lambda seat: seat.respawn(3.0, died_at=2.0),
    SeatEvent.GIVE_UP: lambda seat: seat.give_up("too many crashes"),
    SeatEvent.EMPTIED: lambda seat: seat.emptied(),
    SeatEvent.LEFT: lambda seat: seat.left(4.0),
}


def test_a_second_row_for_a_state_and_an_event_is_refused() -> None:
    with pytest.raises(ValueError, match="two rows for ready in starting"):
        make_table([*ROWS, (SeatState.STARTING, SeatEvent.READY, SeatState.KILLED)])


@pytest.mark.parametrize("state", [state for state in SeatState if state is not SeatState.DUE])
def test_a_state_that_no_row_leads_to_is_refused(state: SeatState) -> None:
    with pytest.raises(ValueError, match=f"no row leads to {state.value}"):
        make_table([row for row in ROWS if row[2] is not state])


def test_a_state_without_a_way_out_is_refused_and_one_out_of_gone_too() -> None:
    with pytest.raises(ValueError, match="given-up"):
        make_table([row for row in ROWS if row[0] is not SeatState.GIVEN_UP])
    with pytest.raises(ValueError, match="gone"):
        make_table([*ROWS, (SeatState.GONE, SeatEvent.RENEW, SeatState.DUE)])


def test_the_sets_of_states_agree_with_the_table() -> None:
    """The rules that hold for each row, whatever the rows are."""
    for (before, event), after in TABLE.items():
        assert (event is SeatEvent.SPAWNED) is (before not in LIVING and after in LIVING)
        ends = event in (SeatEvent.RESPAWN, SeatEvent.GIVE_UP, SeatEvent.EMPTIED)
        assert not (before in LIVING and after not in LIVING) or ends, "only the end of its process empties a seat"
        assert not (before not in WANTED and after in WANTED), "what is to be removed never comes back"
        assert (event is SeatEvent.LEFT) is (before in LEAVING_GROUP and after not in LEAVING_GROUP)
        assert not (before in LEAVING_GROUP and after in LIVING), "nobody joins under a name that is being removed"
    assert ENDED <= WANTED
    assert not ENDED & LIVING
    for state in WANTED:
        assert (state, SeatEvent.RENEW) in TABLE
        assert (state, SeatEvent.RETIRE) in TABLE
    for state in LIVING:
        kinds = {SeatEvent.EMPTIED} if state not in WANTED else {SeatEvent.RESPAWN}
        assert kinds <= {event for before, event in TABLE if before is state}, "each process may end at any time"


@given(st.lists(st.sampled_from(list(SeatEvent)), max_size=60))
def test_a_seat_goes_where_the_table_says_or_nowhere(events: list[SeatEvent]) -> None:
    requests: list[Seat] = []
    seat = new_seat(requests.append)
    answered = 0
    for event in events:
        before = seat.state
        expected = TABLE.get((before, event))
        if expected is None:
            with pytest.raises(IllegalMove, match=before.value):
                EVENTS[event](seat)
            assert seat.state is before
        else:
            EVENTS[event](seat)
            assert seat.state is expected
            answered += event is SeatEvent.LEFT
        data = [each for each in (seat.vacancy, seat.occupant, seat.given_up) if each is not None]
        assert len(data) <= 1
        assert (seat.vacancy is not None) is (seat.state is SeatState.DUE)
        assert (seat.occupant is not None) is (seat.state in LIVING)
        assert (seat.given_up is not None) is (seat.state in ENDED)
        assert len(requests) - answered == (seat.state in LEAVING_GROUP), "one request at a time, and each is answered"


def test_a_new_process_knows_nothing_of_the_one_before() -> None:
    seat = new_seat()
    seat.spawned(FakeProcess("old"), 1.0).ran = True
    seat.renew(2.0, 7.0)
    seat.killed("grace over")
    seat.respawn(8.0, died_at=8.0)
    assert not seat.can_start(7.9)
    assert seat.can_start(8.0)
    occupant = seat.spawned(FakeProcess("new"), 9.0)
    assert (occupant.ran, occupant.kill_at, occupant.kill_cause, occupant.last_seq) == (False, None, None, -1)
    assert occupant.predecessor_died_at == 8.0
    assert seat.worker == "new"


def test_only_the_first_request_to_end_is_sent_on() -> None:
    """A second SIGTERM would be the order to cancel tasks."""
    seat = new_seat()
    seat.spawned(FakeProcess(), 1.0)
    assert seat.renew(2.0, 7.0)
    assert not seat.renew(3.0, 8.0)
    assert not seat.retire(9.0)
    assert not seat.must_be_killed(6.9)
    assert seat.must_be_killed(7.0)
    seat.killed("grace over")
    assert not seat.must_be_killed(8.0)


def test_to_be_renewed_is_a_new_chance() -> None:
    seat = new_seat()
    seat.history.record(1.0)
    seat.give_up("too many crashes")
    assert not seat.renew(2.0, 7.0)
    assert seat.state is SeatState.REVIVING
    assert not seat.can_start(3.0)
    seat.left(3.0)
    assert seat.can_start(3.0)
    assert seat.history.recent(3.0) == []
