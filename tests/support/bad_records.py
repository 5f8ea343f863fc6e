"""Forty ways in which a record can be bad: values that are no tasks, tasks that can't be run, batches that can't be read."""

from __future__ import annotations

import gzip
import json
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.support.raw_batches import append_raw, with_bad_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import AIOKafkaProducer

__all__ = ["BATCHES", "VALUES", "produce_bad"]

_DEEP = 3_000


_numbers = count()


def _task(**fields: Any) -> bytes:
    """A record that is good but for these fields, under an id of its own; None leaves a field out."""
    good: dict[str, Any] = {"v": 1, "id": f"bad-{next(_numbers)}", "task": "noop", "args": [1], "kwargs": {}}
    return json.dumps({name: value for name, value in {**good, **fields}.items() if value is not None}).encode()


#: Values, by what is wrong with them. None has a key: a tombstone.
VALUES: Mapping[str, bytes | None] = {
    "tombstone": None,
    "empty": b"",
    "no-text": b"\xff\xfe\x00",
    "no-json": b"hello",
    "list": b"[]",
    "null": b"null",
    "number": b"17",
    "text": b'"noop"',
    "cut": _task()[:-5],
    "trailing-comma": _task()[:-1] + b",}",
    "two-values": _task() + _task(),
    "gzipped": gzip.compress(_task()),
    "50-kB-of-x": b"x" * 50_000,
    "version": _task(v=2),
    "version-of-text": _task(v="1"),
    "no-id": _task(id=None),
    "id-of-a-number": _task(id=7),
    "empty-id": _task(id=""),
    "id-with-a-space": _task(id="a b"),
    "id-with-braces": _task(id="a{b}"),
    "long-id": _task(id="i" * 200),
    "no-task": _task(task=None),
    "task-of-a-number": _task(task=7),
    "empty-task": _task(task=""),
    "long-task": _task(task="t" * 300),
    "unknown-task": _task(id="bad-unknown", task="nobody knows it"),
    "args-of-text": _task(args="1"),
    "args-of-an-object": _task(args={"x": 1}),
    "kwargs-of-a-list": _task(kwargs=[1]),
    "wrong-arguments": _task(id="bad-arguments", args=["no number"]),
    "negative-retries": _task(retries=-1),
    "half-a-retry": _task(retries=2.5),
    "no-time": _task(timeout_s=0),
    "time-of-text": _task(at="now"),
    "5000-digits": _task(args=["#"]).replace(b'"#"', b"9" * 5_000),
    "deep": _task(args=["#"]).replace(b'"#"', b"[" * _DEEP + b"]" * _DEEP),
    "no-utf-8-inside": _task(task="caf#").replace(b"#", b"\xe9"),
}


#: Batches that no client of Python can read, as the broker stores them: it looks at most things itself, but not at these.
BATCHES: Mapping[str, bytes] = {
    "header-in-latin-1": with_bad_header(b"no task"),
    "three-of-them": with_bad_header(b"no task", b"", b"{}"),
    "one-with-a-key": with_bad_header(b"no task", key=b"k"),
}


async def produce_bad(producer: AIOKafkaProducer, kafka: str | dict[str, Any], topic: str, partition: int) -> int:
    """One of each, to one partition. Returns how many."""
    futures = [
        await producer.send(topic, value, key=b"bad" if value is None else None, partition=partition)
        for value in VALUES.values()
    ]
    for raw in BATCHES.values():
        await append_raw(kafka, topic, partition, raw)
    for future in futures:
        await future
    return len(VALUES) + len(BATCHES)
