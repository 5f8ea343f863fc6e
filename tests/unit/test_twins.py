"""Who shares a slot with us, by heartbeats that anybody may have written."""

from __future__ import annotations

import random
from typing import Any

from yadtq.supervisor.twins import Twins, new_supervisor_id
from yadtq.testing.doubles import ManualClock
from yadtq.wire.heartbeat import Heartbeat

OURS = "0000000000002-b"
SLOT = "host.shop.slot-0"


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.twins = Twins(prefix="host.shop.slot-", supervisor=OURS, clock=self.clock, heartbeat_s=1.0)

    def beat(
        self,
        seq: int = 1,
        *,
        slot: str = SLOT,
        supervisor: str | None = "0000000000001-a",
        worker: str = "x",
        late_s: float = 0.0,
        **more: str,
    ) -> None:
        fields = {
            "worker": worker,
            "slot": slot,
            "supervisor": supervisor,
            "host": "host",
            "pid": 1,
            "seq": seq,
            "at": self.clock.time() - late_s,
        }
        self.twins.heard(Heartbeat.model_validate({"phase": "running", **fields, **more}))

    def living(self, **who: Any) -> None:
        for seq in range(3):
            self.beat(seq, **who)
            self.clock.advance(1)


def test_one_beat_is_not_enough_and_a_copy_of_it_neither() -> None:
    world = World()
    for _ in range(3):
        world.beat(1)
        world.clock.advance(1)
    assert world.twins.of(SLOT) is None
    assert world.twins.taken() == {SLOT}
    world.beat(2)
    twin = world.twins.of(SLOT)
    assert twin is not None
    assert twin.worker == "x"


def test_each_beat_of_another_process_is_no_twin() -> None:
    """A worker that crashes again and again in a slot is heard once each time."""
    world = World()
    for number in range(10):
        world.beat(1, worker=f"x{number}")
        world.clock.advance(1)
    assert world.twins.of(SLOT) is None


def test_beats_that_were_held_up_are_no_twin() -> None:
    """Found by seed 72256 of the simulation: they came when Kafka could be reached again, from a process that was dead."""
    world = World()
    for seq in range(3):
        world.beat(seq, late_s=20)
        world.clock.advance(1)
    assert world.twins.of(SLOT) is None
    assert world.twins.taken() == set()


def test_our_own_dead_and_other_hosts_and_apps_are_no_twins() -> None:
    world = World()
    for who in (
        {"supervisor": OURS},
        {"slot": "host.shop.slot-zero"},
        {"slot": "host.shop.slot-"},
        {"slot": "host.shop.slot-123456"},
        {"slot": "host.shop.slot-²"},
        {"slot": "other.shop.slot-0"},
        {"slot": "host.shop.more.slot-0"},
    ):
        world.living(**who)
    assert world.twins.taken() == set()


def test_a_twin_that_ends_or_falls_silent_is_gone() -> None:
    world = World()
    world.living()
    world.beat(9, phase="stopped")
    assert world.twins.taken() == set()
    world.living()
    assert world.twins.of(SLOT) is not None
    world.clock.advance(5)
    assert world.twins.of(SLOT) is None
    assert world.twins.taken() == set()


def test_the_later_one_yields_and_one_that_does_not_say_counts_as_earlier() -> None:
    for supervisor, yields in (("0000000000001-z", True), ("0000000000003-a", False), (None, True)):
        world = World()
        world.living(supervisor=supervisor)
        twin = world.twins.of(SLOT)
        assert twin is not None
        assert world.twins.may_yield_to(twin) is yields


def test_forged_twins_cost_a_limited_number_of_restarts() -> None:
    world = World()
    world.living()
    twin = world.twins.of(SLOT)
    assert twin is not None
    assert sum(world.twins.may_yield_to(twin) for _ in range(1_000)) == 50


def test_ids_sort_by_the_time_of_the_start() -> None:
    clock, chance = ManualClock(), random.Random(1)
    ids = []
    for _ in range(20):
        ids.append(new_supervisor_id(clock, chance))
        clock.advance(1)
    assert ids == sorted(ids)


def test_a_flood_of_forged_workers_does_not_fill_the_memory() -> None:
    world = World()
    for number in range(20_000):
        world.beat(slot=f"host.shop.slot-{number}")
    assert len(world.twins.taken()) == 1_000
    world.clock.advance(60)
    world.living(slot="host.shop.slot-12345")
    assert world.twins.taken() == {"host.shop.slot-12345"}
