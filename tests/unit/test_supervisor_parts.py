"""The small parts of the supervisor that need neither processes nor servers."""

from __future__ import annotations

import json
import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.supervisor.events import EventPipe, tell
from yadtq.supervisor.process import _Lines
from yadtq.supervisor.respawn import CrashHistory
from yadtq.supervisor.rollout import Rollout
from yadtq.supervisor.seams import Beat, Slot
from yadtq.supervisor.seat import Seat
from yadtq.wire.exits import describe_exit


@given(st.data())
def test_lines_are_cut_wherever_the_pipe_cuts_them(data: st.DataObject) -> None:
    seqs = data.draw(st.lists(st.integers(0, 10**9), max_size=20))
    stream = b"".join(json.dumps({"phase": "running", "seq": seq}).encode() + b"\n" for seq in seqs)
    heard: list[Beat] = []
    lines = _Lines(heard.append)
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream)))
        lines.data_received(stream[at : at + step])
        at += step
    assert [beat.seq for beat in heard] == seqs


@given(st.binary(max_size=200))
def test_garbage_in_the_pipe_is_left_out(garbage: bytes) -> None:
    heard: list[Beat] = []
    lines = _Lines(heard.append)
    lines.data_received(garbage + b'\n[]\nnull\n{}\n{"phase":"running","seq":"x"}\n{"phase":"running"}\n')
    assert heard[-1:] == [Beat("running")]


@pytest.mark.parametrize(
    "line",
    [
        '{"phase":"running","seq":Infinity}',
        '{"phase":"running","seq":NaN}',
        '{"phase":"running","seq":-1}',
        '{"phase":"running","seq":1e300}',
        '{"phase":"running","seq":9223372036854775807}',
        '{"phase":"running","loop_lag_s":"x"}',
        "[" * 50_000,
        '{"phase":"running","seq":' + "9" * 5_000 + "}",
    ],
    ids=lambda line: line[:40],
)
def test_a_line_that_a_task_wrote_breaks_nothing(line: str) -> None:
    heard: list[Beat] = []
    _Lines(heard.append).data_received(line.encode() + b'\n{"phase":"running","seq":7}\n')
    assert heard == [Beat("running", 7)]


def test_an_endless_line_does_not_fill_the_memory() -> None:
    heard: list[Beat] = []
    lines = _Lines(heard.append)
    for _ in range(100):
        lines.data_received(b"x" * 10_000)
    assert len(lines._rest) <= 64 * 1024
    lines.data_received(b'\n{"phase":"running"}\n')
    assert heard == [Beat("running")]


def test_an_error_is_one_line() -> None:
    heard: list[Beat] = []
    _Lines(heard.append).data_received(b'{"phase":"stopped","error":"two\\n  lines"}\n')
    assert heard[0].error == "two lines"


def test_exit_codes_have_words() -> None:
    assert (describe_exit(-9), describe_exit(0), describe_exit(70)) == ("signal 9", "exit 0", "exit 70")


def test_an_event_is_a_line_that_programs_can_read(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "yadtq.supervisor"):
        tell("died", slot="host.slot-0", pid=7, after_s=0.25, absent=None, cause='signal "9"')
    assert caplog.messages == ['event=died slot=host.slot-0 pid=7 after_s=0.250 cause="signal \\"9\\""']


@given(st.text(alphabet=st.characters() | st.sampled_from('\n\x1b"\\= \u2028\u202e\x9b'), max_size=40))
def test_no_value_of_an_event_can_forge_anything(value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("yadtq.supervisor.events.log.log", lambda _level, form, line, **_: lines.append(form % line))
        tell("died", cause=value, pid=7)
    (line,) = lines
    assert line.isprintable()
    head, tail = "event=died cause=", " pid=7"
    assert line.startswith(head)
    assert line.endswith(tail)
    word = line[len(head) : -len(tail)]
    assert (json.loads(word) if word.startswith('"') else word) == value
    assert word.startswith('"') or not set(word) & set(' "=')


class FakeProcess:
    out_of_memory = False

    def __init__(self, worker: str) -> None:
        self.worker, self.pid = worker, 1

    def signal(self, signum: int) -> None: ...

    def kill(self) -> None: ...

    async def ended(self) -> int:
        raise NotImplementedError


def seats(count: int) -> list[Seat]:
    made = [Seat(Slot(n, f"slot-{n}"), CrashHistory(60), due=0.0) for n in range(count)]
    for seat in made:
        seat.spawned(FakeProcess("old"), 0.0)
        seat.ready()
    return made


@pytest.fixture
def rollout() -> tuple[Rollout, list[Seat], list[Seat]]:
    renewed: list[Seat] = []
    aborted: list[Seat] = []
    return Rollout(renewed.append, aborted.append), renewed, aborted


Parts = tuple[Rollout, list[Seat], list[Seat]]


def test_the_next_seat_waits_for_the_successor_of_the_one_before(rollout: Parts) -> None:
    roll, renewed, _ = rollout
    places = seats(2)
    roll.begin(places)
    for _ in range(3):
        roll.step()
        assert renewed == places[:1]
    places[0].respawn(1.0)
    roll.step()
    places[0].spawned(FakeProcess("new"), 2.0)
    roll.step()
    assert renewed == places[:1]
    places[0].ready()
    roll.step()
    assert renewed == places


def test_a_seat_that_is_removed_meanwhile_holds_nothing_up(rollout: Parts) -> None:
    roll, renewed, aborted = rollout
    places = seats(3)
    roll.begin(places)
    roll.step()
    for place in places[:2]:
        place.retire(9.0)
    roll.step()
    assert renewed == [places[0], places[2]]
    assert aborted == []


@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_a_failure_or_a_stop_ends_it(rollout: Parts, how: str) -> None:
    roll, renewed, aborted = rollout
    places = seats(3)
    roll.begin(places)
    roll.step()
    if how == "fails":
        places[0].give_up("too many crashes")
    else:
        roll.cancel()
    roll.step()
    roll.step()
    assert renewed == places[:1]
    assert aborted == (places[:1] if how == "fails" else [])


def test_the_id_of_the_worker_is_that_of_the_process() -> None:
    (seat,) = seats(1)
    assert seat.worker == "old"
    seat.respawn(1.0)
    assert seat.worker is None


def test_events_go_to_a_pipe_as_json() -> None:
    read, write = os.pipe()
    pipe, log = EventPipe(write), logging.getLogger("yadtq.supervisor")
    log.addHandler(pipe)
    try:
        tell("died", level=logging.WARNING, worker="w", pid=7, cause="x\n", absent=None)
        log.warning("event=died worker=forged pid=1")
        for _ in range(10_000):  # nobody reads
            tell("filler", level=logging.WARNING)
    finally:
        log.removeHandler(pipe)
        os.close(write)
    with os.fdopen(read, "rb") as lines:
        assert json.loads(lines.readline()) == {"event": "died", "worker": "w", "pid": 7, "cause": "x\n"}
        assert json.loads(lines.readline()) == {"event": "filler"}
