"""What a task's values cost: python -m tests.bench.values. Microseconds, the least of many rounds.

send: validation and the check that the arguments travel. receive: what the worker makes of them. encode, decode: of the
result. bare: the same four by pydantic alone, which validates twice, and writes with its own serializer.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import ArgsKwargs, SchemaValidator

from yadtq.signature import TaskSignature
from yadtq.wire.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS, _CALLS = 40, 2_000


def typed(x: int, y: int) -> int:
    raise NotImplementedError


def mixed(user: str, tags: list[str], price: float = 1.0, *, limits: dict[str, int] | None = None) -> dict[str, int]:
    raise NotImplementedError


def untyped(x, y): ...


CASES: list[tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = [
    ("int, int -> int", typed, (3, 4), {}, 7),
    ("str, list, dict -> dict", mixed, ("ann", ["a", "b", "c"]), {"limits": {"a": 1}}, {"a": 1, "b": 2}),
    ("untyped: 3, 4 -> 7", untyped, (3, 4), {}, 7),
    ("untyped: dict, list -> dict", untyped, ({"id": 7, "tags": ["a", "b"]}, [1, 2, 3]), {}, {"a": [1]}),
]


def least_us(call: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(_CALLS):
            call()
        best = min(best, time.perf_counter() - started)
    return best / _CALLS * 1e6


def own(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> list[float]:
    signature = TaskSignature("task", function)
    envelope, payload = Envelope("id", "task", list(args), kwargs), signature.encode_result(result)
    return [
        least_us(lambda: signature.to_wire(args, kwargs)),
        least_us(lambda: signature.from_wire(envelope)),
        least_us(lambda: signature.encode_result(result)),
        least_us(lambda: signature.decode_result(payload)),
    ]


def bare(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> list[float]:
    anything: Any = function
    call: Any = TypeAdapter(anything).core_schema
    validate = SchemaValidator(call["arguments_schema"]).validate_python
    adapter = TypeAdapter(get_type_hints(function).get("return", Any))
    write, read, payload = adapter.serializer.to_json, adapter.validator.validate_json, adapter.dump_json(result)
    received = list(args)
    return [
        least_us(lambda: validate(ArgsKwargs(args, kwargs))),
        least_us(lambda: validate(ArgsKwargs(tuple(received), kwargs))),
        least_us(lambda: write(result, warnings="error")),
        least_us(lambda: read(payload)),
    ]


def main() -> None:
    gc.disable()
    print(f"{'':28}{'':8}{'send':>8}{'receive':>8}{'encode':>8}{'decode':>8}{'sum':>8}")
    for name, *case in CASES:
        for label, measured in (("own", own), ("bare", bare)):
            times = measured(*case)
            print(f"{name:28}{label:8}" + "".join(f"{time_us:8.2f}" for time_us in [*times, sum(times)]), flush=True)


if __name__ == "__main__":
    main()
