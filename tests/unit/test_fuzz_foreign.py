"""Anything in place of a heartbeat, a task's record, a control message or a setting: typed errors, and plain text shown."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.support.fuzzing import MINUTES, fuzz
from tests.support.supervision import Fleet, Record
from yadtq.cli.workers import table
from yadtq.client.roster import Roster
from yadtq.errors import ConfigError, EnvelopeError
from yadtq.runtime.signals import Signals
from yadtq.settings import Settings, SupervisorSettings, WorkerSettings
from yadtq.supervisor.process import _Lines
from yadtq.supervisor.twins import Twins
from yadtq.supervisor.watch import LivenessTable, TopicWatch
from yadtq.testing.clock import ManualClock
from yadtq.wire.envelope import decode_envelope
from yadtq.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(90 + MINUTES * 60)

hostile = st.text(st.characters() | st.sampled_from("\n\x1b\x07\x9b\u202e\u2028[]/{}:#"), max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, 1, -1, 2**62, 2**63 - 1, 2**63, 10**400, 1e308, float("inf"), float("nan")])
    | hostile
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3), max_leaves=6
)
BEAT = Heartbeat(
    worker="host.shop.slot-0:1", slot="host.shop.slot-0", host="host", pid=1, phase="running", seq=1, at=1.0
).encode()
BEAT_FIELDS = json.loads(BEAT)
TASK_FIELDS = {"v": 1, "id": "x", "task": "work", "args": [], "kwargs": {}, "retries": 1, "timeout": 1.0}


def records(fields: dict[str, Any]) -> st.SearchStrategy[bytes | None]:
    """A valid record with some fields replaced, cut somewhere, or any bytes."""
    names = st.sampled_from([*fields, "more"])
    changed = st.dictionaries(names, values, max_size=4).map(lambda more: json.dumps({**fields, **more}).encode())
    cut = st.tuples(changed, st.integers(0, 200)).map(lambda parts: parts[0][: parts[1]])
    return changed | cut | st.binary(max_size=60) | st.none() | values.map(lambda value: json.dumps(value).encode())


headers = st.lists(st.tuples(hostile | st.just("seal"), st.binary(max_size=70)), max_size=3)


T = TypeVar("T")


def outcome(call: Callable[[], T], refusal: type[Exception]) -> T | str:
    """What it returns, or the text of the one error that it may raise."""
    try:
        return call()
    except refusal as error:
        text = str(error)
    assert text.isprintable()
    return text


def test_heartbeats() -> None:
    made: list[Any] = []

    async def make() -> None:  # its topic is never read: records are handed in one by one
        fleet = Fleet()
        clock = ManualClock()
        liveness = LivenessTable(clock=clock, heartbeat_s=1, silence_s=10, start_timeout_s=30)
        liveness.spawned("host.shop.slot-0:1", "secret")
        twins = Twins(prefix="host.shop.slot-", supervisor="2", clock=clock, heartbeat_s=1)
        watch = TopicWatch(
            outside=fleet.outside,
            heartbeat_s=1,
            producer=fleet.topic,
            table=liveness,
            twins=twins,
        )
        made.extend([clock, liveness, twins, watch])

    asyncio.run(make())
    clock, liveness, twins, watch = made
    roster = Roster(5, clock)

    @given(records(BEAT_FIELDS), st.none() | st.binary(max_size=40), headers, st.integers(-1, 2**63 - 1))
    def test(value: bytes | None, key: bytes | None, fields: list[tuple[str, bytes]], stamp: int) -> None:
        record = Record("heartbeats", value, key, timestamp=stamp, headers=fields)
        watch._note(record)
        roster.read(record)
        clock.advance(0.1)
        twin = twins.of("host.shop.slot-0")
        assert twin is None or twins.may_yield_to(twin) in (True, False)
        assert liveness._signs["host.shop.slot-0:1"].seq == -1, "forged, and believed"
        beat = outcome(lambda: Heartbeat.decode(value), EnvelopeError)
        if isinstance(beat, str):
            return
        screen = io.StringIO()
        Console(file=screen, width=200, force_terminal=True, color_system=None).print(
            table([beat, *roster.workers()][:5])
        )
        assert screen.getvalue().replace("\n", "").isprintable()

    fuzz(test, examples=300)


def test_records_of_tasks() -> None:
    @given(records(TASK_FIELDS))
    def test(value: bytes | None) -> None:
        outcome(lambda: decode_envelope(value), EnvelopeError)

    fuzz(test, examples=500)


def test_control_messages_and_lines_of_a_pipe() -> None:
    heard: list[str] = []
    signals = Signals()
    signals.on("dead", heard.append)

    @given(records({"phase": "running", "seq": 1, "loop_lag_s": 0.0, "error": "x"}))
    def test(value: bytes | None) -> None:
        signals.hear(value or b"")
        signals.hear(b"dead " + (value or b""))
        beats: list[Any] = []
        _Lines(beats.append).data_received((value or b"") + b"\n")
        assert all(0 <= beat.seq < 2**62 for beat in beats)

    fuzz(test, examples=300)
    assert all(isinstance(subject, str) for subject in heard)


#: Where a value may have a password in it.
SECRETS = ("redis", "kafka")


@pytest.mark.parametrize("model", [Settings, WorkerSettings, SupervisorSettings])
def test_settings(model: type[Settings]) -> None:
    load: Callable[..., object] = model.load
    prefix = str(model.model_config["env_prefix"])
    names = st.sampled_from([*model.model_fields, "nonsense"])
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
        ["inf", "nan", "-1", "1e400", "9" * 5000, "[]", "{}", "redis://u:hunter2@h:x/0", "u:hunter2@h:1", "//:hunter2@"]
    )

    @given(st.dictionaries(names, values, max_size=2), st.dictionaries(names, texts, max_size=2))
    def test(given_: dict[str, Any], variables: dict[str, str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, text in variables.items():
                patch.setenv(f"{prefix}{name.upper()}", text)
            loaded = outcome(lambda: load(**given_), ConfigError)
        if not any("hunter2@" in text for name, text in variables.items() if name not in SECRETS):
            assert "hunter2@" not in repr(loaded)

    fuzz(test, examples=200)
