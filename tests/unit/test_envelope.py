"""A record is a whole, valid task or an `EnvelopeError` in one line that says which field is wrong."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.errors import EnvelopeError
from yadtq.store.keys import Keys
from yadtq.wire.codec import CodecError
from yadtq.wire.deadletter import DEAD_LETTER_HEADERS
from yadtq.wire.envelope import Envelope, decode_envelope, encode_envelope
from yadtq.wire.heartbeat import Heartbeat, RunningTask
from yadtq.wire.ids import new_task_id

LEAST = {"v": 1, "id": "a-1", "task": "addition", "args": [100, 25], "kwargs": {}}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
task_ids = st.text(st.characters(exclude_characters="{}", exclude_categories=["Z", "C"]), min_size=1, max_size=128)
envelopes = st.builds(
    Envelope,
    id=task_ids,
    task=st.text(min_size=1, max_size=200),
    args=st.lists(plain, max_size=4),
    kwargs=st.dictionaries(st.text(max_size=8), plain, max_size=4),
    at=st.none() | st.floats(0, 1e10),
    retries=st.none() | st.integers(0, 1_000),
    timeout_s=st.none() | st.floats(0.001, 1e6),
)


@given(envelopes)
def test_envelopes_come_back(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope


def test_the_least_record_of_the_contract() -> None:
    assert decode_envelope(json.dumps(LEAST).encode()) == Envelope("a-1", "addition", [100, 25], {})
    assert decode_envelope(b'{"v": 1, "id": "a", "task": "t"}') == Envelope("a", "t", [], {})


def test_what_is_not_set_is_not_written() -> None:
    assert json.loads(encode_envelope(Envelope("a-1", "addition", [100, 25]))) == LEAST


def test_fields_of_newer_versions_are_ignored() -> None:
    assert decode_envelope(json.dumps(LEAST | {"colour": "red", "x": {"y": 1}}).encode()).id == "a-1"


def test_two_envelopes_share_no_arguments() -> None:
    assert Envelope("a", "t").args is not Envelope("b", "t").args


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("v", {"v": 2}),
    ("v", {"v": None}),
    ("id", {"id": 5}),
    ("id", {"id": None}),
    ("id", {"id": ""}),
    ("id", {"id": "a b"}),
    ("id", {"id": "a\n"}),
    ("id", {"id": "a\tb"}),
    ("id", {"id": "{a}"}),
    ("id", {"id": "a}"}),
    ("id", {"id": "x" * 129}),
    ("task", {"task": ""}),
    ("task", {"task": 1}),
    ("task", {"task": "x" * 201}),
    ("args", {"args": {}}),
    ("args", {"args": "abc"}),
    ("args", {"args": None}),
    ("kwargs", {"kwargs": []}),
    ("kwargs", {"kwargs": None}),
    ("at", {"at": "soon"}),
    ("retries", {"retries": "many"}),
    ("retries", {"retries": 1.5}),
    ("timeout_s", {"timeout_s": []}),
]

BAD: list[tuple[str, bytes | None]] = [
    ("empty", None),
    ("JSON", b""),
    ("JSON", b"\xff\xfe"),
    ("JSON", b"{"),
    ("JSON", b'{"v": 1, "id": "a", "task": "t"} trailing'),
    ("", b"[]"),
    ("", b'"text"'),
    ("", b"null"),
    *[(field, json.dumps({**LEAST, **change}).encode()) for field, change in CHANGES],
    *[(field, json.dumps({k: v for k, v in LEAST.items() if k != field}).encode()) for field in ("id", "task")],
]


@pytest.mark.parametrize(("says", "value"), BAD, ids=repr)
def test_a_bad_record_is_one_line_that_names_the_field(says: str, value: bytes | None) -> None:
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(value)
    message = str(caught.value)
    assert says in message
    assert message
    assert "\n" not in message


@given(st.binary(max_size=200) | plain.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_task_or_an_envelope_error(value: bytes) -> None:
    try:
        envelope = decode_envelope(value)
    except EnvelopeError as error:
        problem = str(error)
    else:
        problem = ""
        assert isinstance(envelope, Envelope)
    assert "\n" not in problem


@pytest.mark.parametrize("char", [" ", "\t", "\n", "\r", "\x0b", "\u00a0", "\u2003", "\u2028", "{", "}"])
def test_no_id_can_break_a_key_or_a_line(char: str) -> None:
    for task_id in (char, f"a{char}", f"{char}a", f"a{char}b"):
        with pytest.raises(EnvelopeError):
            decode_envelope(json.dumps(LEAST | {"id": task_id}).encode())


@given(task_ids)
def test_keys_of_any_id_keep_their_hash_tag(task_id: str) -> None:
    key = Keys("app").task + task_id
    assert key[key.index("{") + 1 : key.index("}")] == "app"


@pytest.mark.parametrize("argument", [object(), b"\xff", {1, 2, object()}])
def test_arguments_without_a_json_form_are_refused(argument: Any) -> None:
    with pytest.raises(CodecError):
        encode_envelope(Envelope("a", "t", [argument]))


def test_new_ids_are_valid_and_differ() -> None:
    chance = random.SystemRandom()
    ids = {new_task_id(chance) for _ in range(1_000)}
    assert len(ids) == 1_000
    for task_id in ids:
        assert decode_envelope(encode_envelope(Envelope(task_id, "t"))).id == task_id


BEAT = Heartbeat(
    worker="host/1-2",
    slot="host/slot-1",
    host="host",
    pid=1,
    phase="running",
    seq=3,
    at=1.5,
    queues=("default",),
    running=(RunningTask(id="a", task="t", attempt=2, age_s=0.5),),
    partitions={"tasks:0": 7},
)


def test_heartbeats_come_back() -> None:
    assert Heartbeat.decode(BEAT.encode()) == BEAT


def test_a_heartbeat_of_a_newer_version_is_read() -> None:
    assert Heartbeat.decode(json.dumps({**json.loads(BEAT.encode()), "mood": "good"}).encode()) == BEAT


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b"[]",
        b"\xff",
        *(json.dumps({**json.loads(BEAT.encode()), "phase": p}).encode() for p in (1, "x")),
    ],
)
def test_what_is_not_a_heartbeat_is_refused_in_one_line(value: bytes | None) -> None:
    with pytest.raises(EnvelopeError) as caught:
        Heartbeat.decode(value)
    assert "\n" not in str(caught.value)


def test_dead_letter_headers_are_ours_and_differ() -> None:
    assert len(set(DEAD_LETTER_HEADERS)) == len(DEAD_LETTER_HEADERS)
    assert all(header.startswith("yadtq-") for header in DEAD_LETTER_HEADERS)
