"""Whatever is written to Kafka, published in Redis or sent through a pipe: an answer, or a typed error in one line."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.apps import make_record
from tests.support.fuzzing import MINUTES, fuzz
from yadtq.client.client import _failure
from yadtq.client.roster import Roster
from yadtq.errors import EnvelopeError, InvalidArguments, TaskFailed, YadtqError
from yadtq.runtime.signals import DEAD, Signals
from yadtq.signature import TaskSignature
from yadtq.store.tasks.verbs import Snapshot
from yadtq.supervisor.process import _Lines
from yadtq.supervisor.seams import Beat
from yadtq.supervisor.twins import Twins
from yadtq.testing.doubles import ManualClock
from yadtq.wire.codec import CodecError, compress, decode, decompress
from yadtq.wire.envelope import Envelope, decode_envelope, encode_envelope
from yadtq.wire.heartbeat import Heartbeat, is_sealed_with, seal
from yadtq.wire.states import TaskStatus

_odd_numbers = st.sampled_from([-1, 0, 2**53 + 1, 2**63, 2**64, 10**30, 1e308, -0.0, float("nan"), float("inf")])
_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | _odd_numbers | st.text(max_size=8) | st.just("2026-01-01")
)
json_data = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
deep = st.sampled_from([10, 150, 199, 201, 5_000]).flatmap(
    lambda levels: st.sampled_from([b"[" * levels + b"]" * levels, b'{"a":' * levels + b"1" + b"}" * levels])
)


def as_json(data: Any) -> bytes:
    """As foreign programs write it: with constants, and with surrogates."""
    return json.dumps(data).encode()


def objects(likely: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[bytes]:
    """JSON objects with such fields, some of them missing, some of them anything."""
    fields = st.fixed_dictionaries({}, optional={name: values | json_data for name, values in likely.items()})
    good = st.fixed_dictionaries(likely)
    return st.one_of(
        good.map(as_json),
        st.tuples(good, fields).map(lambda both: as_json({**both[0], **both[1]})),
        fields.map(as_json),
        json_data.map(as_json),
        good.flatmap(lambda data: st.integers(0, 80).map(lambda size: as_json(data)[:size])),  # cut short
        deep,
        st.binary(max_size=40),
    )


names = st.text(max_size=12) | st.sampled_from(["work", "a b", "{x}", "x" * 300, "\x1b[31m", "\u202e", ""])
counts = st.integers(-1, 5) | _odd_numbers
seconds = st.floats() | st.integers(-1, 5)
tasks = objects(
    {
        "v": st.sampled_from([1, 1, 1, 2]),
        "id": st.just("id-1") | names,
        "task": st.just("work") | names,
        "args": st.lists(json_data, max_size=3),
        "kwargs": st.dictionaries(st.sampled_from(["x", "y", "day", "rest", ""]), json_data, max_size=3),
        "at": seconds,
        "retries": counts,
        "timeout_s": seconds,
    }
)
running = st.fixed_dictionaries({"id": names, "task": names, "attempt": st.integers(0, 3), "age_s": st.floats(0, 9)})
heartbeats = objects(
    {
        "v": st.just(1),
        "worker": names,
        "host": names,
        "pid": st.integers(0, 9),
        "phase": st.sampled_from(["starting", "running", "draining", "stopped", "dead"]),
        "seq": st.integers(0, 9),
        "at": st.floats(0, 1e10),
        "supervisor": st.none() | names,
        "slot": st.none() | st.sampled_from(["h-0", "h-1", "h-x"]) | names,
        "running": st.lists(running, max_size=2),
        "partitions": st.dictionaries(names, st.integers(0, 9), max_size=2),
    }
)


def check_line(error: Exception) -> None:
    assert isinstance(error, YadtqError)
    assert "\n" not in str(error)
    assert len(str(error)) < 3_000


def work(x: int, day: date | None = None, *rest: Any, y: list[Any] = [], **more: float) -> None: ...  # noqa: B006


def untyped(x=1, *rest, y=2, **more): ...


SIGNATURES = [TaskSignature("work", work), TaskSignature("work", untyped)]


@pytest.mark.timeout(90 + MINUTES * 60)
def test_task_records() -> None:
    @given(st.none() | tasks)
    def test(value: bytes | None) -> None:
        try:
            envelope = decode_envelope(value)
        except EnvelopeError as error:
            check_line(error)
            return
        assert isinstance(envelope, Envelope)
        assert envelope.v == 1
        for signature in SIGNATURES:
            try:
                args, kwargs = signature.from_wire(envelope)
            except InvalidArguments as error:
                check_line(error)
            else:
                assert type(args) is tuple
                assert type(kwargs) is dict
        try:
            again = encode_envelope(envelope)
        except CodecError as error:  # a foreign writer's lone surrogate, for one
            check_line(error)
        else:
            decode_envelope(again)

    fuzz(test, 400)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_heartbeats() -> None:
    clock = ManualClock()
    secret = "s" * 32

    @given(st.lists(st.tuples(st.none() | heartbeats, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=3))
    def test(records: list[tuple[bytes | None, int]]) -> None:
        roster = Roster(5.0, clock, most_workers=2)
        twins = Twins(prefix="h-", supervisor="00000000000001-00000000", clock=clock, heartbeat_s=1.0)
        for value, stamp in records:
            roster.read(make_record(value, timestamp=stamp))
            try:
                beat = Heartbeat.decode(value)
            except EnvelopeError as error:
                check_line(error)
                continue
            twins.heard(beat)
            clock.advance(0.6)  # so that a second heartbeat is believed
            twins.heard(beat)
            for slot in twins.taken():
                if (twin := twins.of(slot)) is not None:
                    twins.may_yield_to(twin)
                    twins.is_news(twin)
            assert is_sealed_with(secret, value, seal(value or b"", secret))
            assert not is_sealed_with(secret, value, seal(value or b"", "other"))
        assert len(roster.workers()) <= 2

    fuzz(test, 300)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_what_a_worker_sends_through_its_pipe() -> None:
    lines = objects({"phase": names, "seq": counts, "loop_lag_s": seconds, "error": st.none() | names})

    @given(st.lists(lines, max_size=4), st.integers(1, 50))
    def test(written: list[bytes], size: int) -> None:
        beats: list[Beat] = []
        pipe = _Lines(beats.append)
        data = b"".join(line + b"\n" for line in written)
        for at in range(0, len(data), size):
            pipe.data_received(data[at : at + size])
        for beat in beats:
            assert 0 <= beat.seq < 2**63
            assert isinstance(beat.loop_lag_s, float)
        assert len(beats) <= data.count(b"\n")

    fuzz(test, 300)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_messages_to_all_workers() -> None:
    words = st.sampled_from([b"dead", b"DEAD", b"", b"later"])
    messages = st.tuples(words, st.sampled_from([b" ", b"", b"\n"]), st.binary(max_size=20)).map(b"".join)

    @given(st.binary(max_size=40) | messages)
    def test(message: bytes) -> None:
        heard: list[str] = []
        signals = Signals()
        signals.on(DEAD, heard.append)
        signals.hear(message)
        assert len(heard) <= message.startswith(b"dead")
        for about in heard:
            about.encode()  # no surrogates, which nobody could write into a log

    fuzz(test, 200)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_results_and_errors_of_tasks() -> None:
    errors = objects({"type": names, "message": names, "traceback": st.text(max_size=20)})

    @given(errors, st.integers(0, 200), st.booleans())
    def test(payload: bytes, limit: int, damaged: bool) -> None:
        failure = _failure("id", Snapshot(TaskStatus.FAILED, 1, payload))
        assert isinstance(failure, TaskFailed)
        assert str(failure).isprintable()
        for signature in SIGNATURES:
            try:
                signature.decode_result(payload)
            except CodecError as error:
                check_line(error)
        stored = compress(payload, 10)
        stored = b"\x01" + stored if damaged else stored
        try:
            plain = decompress(stored, limit)
            assert damaged or plain == payload
            decode(plain)
        except CodecError as error:
            check_line(error)

    fuzz(test, 300)
