"""Any annotation, any value: what arrives is the same, or it is refused by a typed error in one line. No third thing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.annotations import Case, canonical, cases
from tests.support.fuzzing import MINUTES, fuzz
from yadtq.errors import ConfigError, Discard, InvalidArguments
from yadtq.signature import TaskSignature, untyped_arguments
from yadtq.wire.codec import CodecError, decode, refuse_unreadable
from yadtq.wire.envelope import decode_envelope, encode_task


@pytest.fixture(autouse=True)
def _long_numbers() -> Iterator[None]:
    """Hypothesis shows values, some of which have more digits than Python shows."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


def signature_of(hint: Any) -> TaskSignature | None:
    def task(x: Any, *, y: Any = None) -> Any: ...

    task.__annotations__ = {"x": hint, "y": hint, "return": hint}
    try:
        return TaskSignature("task", task)
    except ConfigError:
        return None


def sent(args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """As the submitter does it. Raises `CodecError`."""
    value = encode_task("id", "task", args, kwargs)
    refuse_unreadable(value)
    return value


def check_refusal(error: Exception) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 2_000


def check_arguments(signature: TaskSignature, value: Any) -> None:
    try:
        validated, named = signature.validate((value,), {"y": value})
    except InvalidArguments as error:
        check_refusal(error)
        return
    try:
        record = sent(*signature.to_wire((value,), {"y": value}))
    except (InvalidArguments, CodecError) as error:
        check_refusal(error)
        return
    for _ in range(2):  # as many attempts, each with arguments of its own
        arrived, by_name = signature.from_wire(decode_envelope(record))
        assert canonical(arrived[0]) == canonical(validated[0])
        assert canonical(by_name["y"]) == canonical(named["y"])


def check_result(signature: TaskSignature, value: Any) -> None:
    try:
        payload = signature.encode_result(value)
    except Discard as error:
        check_refusal(error)
        return
    arrived = signature.decode_result(payload)
    assert arrived == value or canonical(arrived) == canonical(value)


@given(cases, st.data())
def any_annotation(case: Case, data: st.DataObject) -> None:
    hint, values = case
    signature = signature_of(hint)
    if signature is not None:
        value = data.draw(values)
        check_arguments(signature, value)
        check_result(signature, value)


@given(cases.flatmap(lambda case: case[1]))
def any_value_by_name(value: Any) -> None:
    try:
        record = sent(*untyped_arguments("task", (value,), {"y": value}))
    except (InvalidArguments, CodecError) as error:
        check_refusal(error)
        return
    found = decode(record)
    assert canonical(found["args"][0]) == canonical(found["kwargs"]["y"]) == canonical(value)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_typed() -> None:
    fuzz(any_annotation, 400)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_untyped() -> None:
    fuzz(any_value_by_name, 200)
