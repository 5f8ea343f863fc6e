"""free + reserved + running = total, whatever happens in whatever order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yadtq.execution.slots import Slots


class SlotsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(7)
        self.reserved = self.running = 0

    @rule(data=st.data())
    def reserve(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.slots.free))
        self.slots.reserve(count)
        self.reserved += count

    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.reserved))
        granted = data.draw(st.integers(0, count))
        self.slots.start(granted)
        self.slots.give_back(count - granted)
        self.reserved -= count
        self.running += granted

    @precondition(lambda self: self.running)
    @rule()
    def leave(self) -> None:
        self.slots.leave()
        self.running -= 1

    @invariant()
    def all_are_somewhere(self) -> None:
        slots = self.slots
        assert (slots.reserved, slots.running) == (self.reserved, self.running)
        assert slots.free + slots.reserved + slots.running == slots.total
        assert slots.is_idle == (not self.reserved and not self.running)
        assert slots._idle.is_set() == slots.is_idle


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_no_more_than_there_are_and_none_twice() -> None:
    slots = Slots(2)
    for wrong in (3, -1):
        with pytest.raises(AssertionError):
            slots.reserve(wrong)
    slots.reserve(1)
    with pytest.raises(AssertionError):
        slots.give_back(2)
    with pytest.raises(AssertionError):
        slots.start(2)
    with pytest.raises(AssertionError):
        slots.leave()
    assert (slots.free, slots.reserved, slots.running) == (1, 1, 0), "what was refused has changed nothing"


async def test_idle_waits_for_what_is_reserved_and_for_what_runs() -> None:
    slots = Slots(2)
    await asyncio.wait_for(slots.idle(), 1)
    slots.reserve(2)
    idle = asyncio.create_task(slots.idle())
    slots.start(1)
    slots.give_back(1)
    await asyncio.sleep(0)
    assert not idle.done()
    slots.leave()
    await asyncio.wait_for(idle, 1)
