"""The record of a task on Kafka. The same text as docs/wire-format.md, in code.

It is decoded and validated in one pass of pydantic-core (about 1 µs): a record is either a whole, valid
`Envelope` or an `EnvelopeError` that says which field is wrong. Fields that this version doesn't know are ignored, so
that old workers can read what newer clients write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from yadtq.errors import EnvelopeError
from yadtq.shown import shown
from yadtq.wire.codec import encode
from yadtq.wire.ids import TaskId, TaskName  # noqa: TC001 - pydantic reads the fields at run time

__all__ = ["FIELDS", "Envelope", "decode_envelope", "decode_head", "encode_envelope", "encode_task", "first_problem"]


VERSION = 1


@dataclass(slots=True)  # not frozen: that would make each one four times as expensive, and every submit 1.5 µs slower
class Envelope:
    """One task, complete: a worker needs nothing else to run it.

    at: seconds since the epoch of the submit. retries, timeout_s: None takes the task's own. fingerprint:
    of the signature that the arguments fit (`TaskSignature.fingerprint`), None: not known.
    """

    id: TaskId
    task: TaskName
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    v: Literal[1] = 1
    at: float | None = None
    retries: Annotated[int, Field(ge=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    fingerprint: Annotated[str, Field(max_length=64)] | None = None


_ENVELOPE: TypeAdapter[Envelope] = TypeAdapter(Envelope)

#: (name, default) of each field, in the order in which they are written; `...`: always written. Made from the class
#: that the decoder reads, so that the two can't differ; docs/wire-format.md has the same table, which a test compares.
FIELDS: tuple[tuple[str, Any], ...] = (
    ("v", ...),
    *((each.name, None if each.default is None else ...) for each in fields(Envelope) if each.name != "v"),
)
_NAMES = tuple(name for name, _ in FIELDS)
_values_of = attrgetter(*_NAMES)


def encode_envelope(envelope: Envelope) -> bytes:
    """The record's value, without the fields that are None. Raises `CodecError` for arguments without a JSON form."""
    values = zip(_NAMES, _values_of(envelope), strict=True)
    return encode({name: value for name, value in values if value is not None})


def encode_task(task_id: str, task: str, args: list[Any], kwargs: dict[str, Any], /, **optional: Any) -> bytes:
    """The value of a new task's record: `encode_envelope` of such an `Envelope`, which is not made for it.

    Creating one would take a sixth of the time of a submit. optional: fields by name, none of them None.
    """
    return encode({"v": VERSION, "id": task_id, "task": task, "args": args, "kwargs": kwargs, **optional})


def decode_envelope(value: bytes | None) -> Envelope:
    """The task in a record's value. Raises `EnvelopeError` in one line."""
    if value is None:
        raise EnvelopeError("empty value: expected a JSON object with v, id, task")
    try:
        return _ENVELOPE.validate_json(value)
    except ValidationError as error:
        raise EnvelopeError(first_problem(error)) from None


@dataclass(slots=True)
class _Head:
    id: TaskId
    task: TaskName


_HEAD: TypeAdapter[_Head] = TypeAdapter(_Head)
#: How YADTQ's own records begin: for those that are no JSON as a whole (cut off, a number without an end).
_BEGINNING = re.compile(rb'\{"v":[0-9]{1,9},("id":"[^"\\]{1,512}","task":"(?:[^"\\]|\\.){1,2000}")')


def decode_head(value: bytes | None) -> Envelope | None:
    """Id and task of a record that `decode_envelope` refuses, without arguments; None if they can't be read either."""
    beginning = _BEGINNING.match(value or b"")
    for text in (value or b"", b"{%b}" % beginning[1] if beginning else b""):
        try:
            head = _HEAD.validate_json(text)
        except ValidationError:
            continue
        return Envelope(head.id, head.task)
    return None


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a record, in one line: `field: what`."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    # The name of a field may be foreign, and so may what a message quotes.
    return shown(f"{where}: {first['msg']}" if where else first["msg"])
