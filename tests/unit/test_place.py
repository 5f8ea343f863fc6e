"""The table of a delivery's life: complete, without contradictions, the one in the documentation, and kept by the double."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from tests.support.apps import bring, make_delivery, make_record
from yadtq.delivery.checked import CheckedDelivery
from yadtq.delivery.delivery import UNDECODABLE
from yadtq.delivery.place import LIFE, MOVES, Place
from yadtq.delivery.tracker import PartitionTracker

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
ENDS = {Place.RELEASED, Place.DROPPED}


def reached(start: Place) -> set[Place]:
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        new = {then for place, then in MOVES if place is here} - found
        found |= new
        todo += new
    return found


def test_an_event_leads_to_one_place() -> None:
    events = [(move.place, move.event) for move in LIFE]
    assert len(events) == len(set(events))
    assert all(move.event for move in LIFE)
    assert {(move.place, move.then) for move in LIFE} == MOVES


def test_every_place_can_be_reached_and_left_until_the_end() -> None:
    assert reached(Place.RECEIVED) == set(Place)
    for place in Place:
        assert (place in ENDS) == (not [move for move in LIFE if move.place is place])
        assert reached(place) & ENDS, f"{place} has no way to an end"


def test_an_offset_is_let_go_where_a_delivery_ends_and_nowhere_else() -> None:
    for move in LIFE:
        expected = {Place.RELEASED: "released", Place.DROPPED: "lost"}.get(move.then, "held")
        assert move.offset == expected, move


def test_a_slot_belongs_to_a_claim_or_to_an_attempt_that_runs() -> None:
    for move in LIFE:
        assert move.slot == {Place.CLAIMING: "reserved", Place.RUNNING: "taken"}.get(move.then, "-"), move


def test_what_runs_or_is_stored_has_a_lease_and_what_waits_has_none() -> None:
    for move in LIFE:
        if move.then in (Place.RUNNING, Place.STORING):
            assert move.lease == "held", move
        elif move.then is not Place.OUTBOX:
            assert move.lease == "-", move


def test_the_table_of_the_architecture_is_this_one() -> None:
    section = PAGE.read_text().partition("\n## The life of a delivery\n")[2].partition("\n## ")[0]
    rows = [
        tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
        for line in re.findall(r"^\| `.*$", section, re.MULTILINE)
    ]
    assert rows == [
        (move.place.value, move.event, move.then.value, move.offset, move.slot, move.lease) for move in LIFE
    ]


class TestChecked:
    @pytest.mark.parametrize(("place", "then"), list(product(Place, Place)))
    def test_refuses_what_is_not_in_the_table(self, place: Place, then: Place) -> None:
        delivery = bring(make_delivery(), place)
        if (place, then) in MOVES:
            delivery.place = then
            assert delivery.place is then
        else:
            with pytest.raises(AssertionError, match=f"{place.value} to {then.value}"):
                delivery.place = then
            assert delivery.place is place

    def test_begins_as_received(self) -> None:
        made = CheckedDelivery(make_record(b""), UNDECODABLE, None, source=PartitionTracker(0), now=0.0)
        assert made.place is Place.RECEIVED

    def test_is_let_go_once(self) -> None:
        delivery = bring(make_delivery(), Place.STORING)
        delivery.release()
        with pytest.raises(AssertionError):
            delivery.release()
