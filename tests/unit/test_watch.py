"""Nobody is condemned on evidence that we could not have seen."""

from __future__ import annotations

from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.supervision import Fleet, Record
from yadtq.supervisor.twins import Twins
from yadtq.supervisor.watch import LivenessTable, TopicWatch, Verdict
from yadtq.wire.heartbeat import Heartbeat, seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SILENCE_S, START_S, BEAT_S = 15.0, 30.0, 1.0
SECRET = "of this start"


class HandClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class World:
    """A table and its clock; `live` lets seconds pass, with a canary and a check in each."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.seqs = count()
        self.table = LivenessTable(clock=self.clock, heartbeat_s=BEAT_S, silence_s=SILENCE_S, start_timeout_s=START_S)

    def live(self, seconds: int, *, canary: bool = True, pipe: Iterable[str] = (), topic: Iterable[str] = ()) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            if canary:
                self.table.canary()
            for worker in pipe:
                self.table.piped(worker, "running")
            for worker in topic:
                self.table.seen(worker, "running", next(self.seqs))
            self.table.check()

    def running(self, worker: str) -> None:
        self.table.spawned(worker, SECRET)
        self.table.piped(worker, "running")


def test_a_worker_heard_by_either_way_is_alive() -> None:
    world = World()
    for worker in ("by-pipe", "by-topic", "by-none"):
        world.running(worker)
    world.live(20, pipe=["by-pipe"], topic=["by-topic"])
    assert world.table.check() == {
        "by-pipe": Verdict.ALIVE,
        "by-topic": Verdict.ALIVE,
        "by-none": Verdict.SILENT,
    }


def test_the_limit_is_exact() -> None:
    world = World()
    world.live(60)
    world.running("w")
    world.live(14)
    assert world.table.check()["w"] is Verdict.ALIVE
    world.live(1)
    assert world.table.check()["w"] is Verdict.SILENT


def test_in_an_outage_of_kafka_nobody_is_condemned() -> None:
    world = World()
    world.live(60)
    world.running("w")
    world.live(100, canary=False)
    assert world.table.check()["w"] is Verdict.UNKNOWN


def test_the_first_canary_after_an_outage_proves_nothing_of_the_time_before() -> None:
    world = World()
    world.live(60)
    world.running("w")
    world.live(100, canary=False)
    world.live(SILENCE_S.__trunc__())
    assert world.table.check()["w"] is Verdict.UNKNOWN
    world.live(1)
    assert world.table.check()["w"] is Verdict.SILENT


def test_after_a_freeze_of_the_supervisor_everybody_has_time_again() -> None:
    world = World()
    world.running("w")
    world.live(60, pipe=["w"])
    world.clock.now += 300
    world.table.canary()
    assert world.table.check()["w"] is Verdict.ALIVE
    world.live(14)
    assert world.table.check()["w"] is Verdict.ALIVE
    world.live(2)
    assert world.table.check()["w"] is Verdict.SILENT


def test_a_start_has_a_limit_however_loud_it_is() -> None:
    world = World()
    world.live(60)
    world.table.spawned("w", SECRET)
    for _ in range(29):
        world.live(1)
        world.table.piped("w", "starting")
    assert world.table.check()["w"] is Verdict.ALIVE
    world.live(1)
    assert world.table.check()["w"] is Verdict.SILENT


def test_a_start_that_waits_for_kafka_with_us_is_not_overdue() -> None:
    world = World()
    world.table.spawned("w", SECRET)
    world.live(100, canary=False)
    assert world.table.check()["w"] is Verdict.UNKNOWN


def test_an_end_without_a_run_is_no_start() -> None:
    world = World()
    world.table.spawned("w", SECRET)
    world.table.piped("w", "draining")
    world.live(16)
    assert world.table.check()["w"] is Verdict.SILENT


def test_strangers_and_the_removed_are_not_judged() -> None:
    world = World()
    world.running("w")
    world.table.seen("stranger", "running", 1)
    world.table.removed("w")
    assert world.table.check() == {}


def test_a_beat_that_is_not_newer_than_the_last_is_no_sign_of_life() -> None:
    world = World()
    world.running("w")
    world.table.seen("w", "running", 7)
    for _ in range(16):
        world.live(1)
        world.table.seen("w", "running", 7)
        world.table.seen("w", "running", 6)
    assert world.table.check()["w"] is Verdict.SILENT


steps = st.lists(st.tuples(st.sampled_from(["pipe", "topic", "canary", "check"]), st.floats(0, 8)), max_size=80)


@given(steps)
def test_silent_means_silent_in_plain_sight(steps: list[tuple[str, float]]) -> None:
    world = World()
    world.running("w")
    begun = world.clock.now
    gap_s = world.table.gap_s
    heard, canaries, checks = begun, [], [begun]
    for event, wait_s in steps:
        world.clock.now += wait_s
        now = world.clock.now
        match event:
            case "pipe":
                world.table.piped("w", "running")
                heard = now
            case "topic":
                world.table.seen("w", "running", next(world.seqs))
                heard = now
            case "canary":
                world.table.canary()
                canaries.append(now)
            case _:
                verdict = world.table.check()["w"]
                checks.append(now)
                window = now - SILENCE_S
                seen = [at for at in canaries if at >= window]
                awake = all(after - before <= gap_s for before, after in pairwise(checks) if after > window)
                if verdict is Verdict.SILENT:
                    assert heard <= window
                    assert seen
                    assert now - seen[-1] <= gap_s
                    assert awake
                elif heard <= window and awake and canaries and canaries[0] <= window:
                    before = max(at for at in canaries if at <= window)
                    blind = [b - a for a, b in pairwise([before, *seen, now]) if b - a > gap_s]
                    assert blind, "a silence in plain sight went unnoticed"


def beat(worker: str, seq: int, secret: str = "") -> Record:
    value = Heartbeat(worker=worker, host="h", pid=1, phase="running", seq=seq, at=0.0).encode()
    return Record("t", value, worker.encode(), headers=seal(value, secret))


def new_watch(world: World) -> TopicWatch:
    fleet = Fleet()
    twins = Twins(prefix="host.shop.slot-", supervisor="2-b", clock=world.clock, heartbeat_s=BEAT_S)
    return TopicWatch(outside=fleet.outside, heartbeat_s=BEAT_S, producer=fleet.topic, table=world.table, twins=twins)


def test_the_watch_tells_canaries_and_heartbeats_apart() -> None:
    world = World()
    watch = new_watch(world)
    world.live(60, canary=False)
    world.table.spawned("w", SECRET)
    for record in (
        Record("t", b'{"v":1,"canary":"another"}', b"canary:another"),
        Record("t", None, None),
        Record("t", b"garbage", b"w"),
    ):
        watch._note(record)
    assert not world.table.visible()
    watch._note(Record("t", watch._value, watch._key))
    assert world.table.visible()
    world.live(20)
    watch._note(beat("w", 1, SECRET))
    world.live(14)
    assert world.table.check()["w"] is Verdict.ALIVE


@pytest.mark.parametrize(
    "forged",
    [
        lambda seq: beat("w", seq),
        lambda seq: beat("w", seq, "another secret"),
        lambda seq: Record("t", beat("w", seq).value, b"w", headers=beat("w", 1, SECRET).headers),
        lambda seq: Record("t", beat("w", seq).value, b"w", headers=(("seal", b""), ("seal", None))),  # type: ignore[arg-type]
        lambda _seq: beat("w", 1, SECRET),  # a copy of a real one
    ],
    ids=["unsealed", "wrong secret", "seal of another", "no seals", "replayed"],
)
def test_a_forged_heartbeat_keeps_no_frozen_worker_alive(forged: Callable[[int], Record]) -> None:
    world = World()
    watch = new_watch(world)
    world.live(60)
    world.running("w")
    watch._note(beat("w", 1, SECRET))
    for seq in range(2, 20):
        world.live(1)
        watch._note(forged(seq))
    assert world.table.check()["w"] is Verdict.SILENT
