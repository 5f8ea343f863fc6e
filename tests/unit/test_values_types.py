"""The types that people use, and what is near them: each value arrives, or is refused in one line that says what to do."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import math
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv6Interface
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, Required, TypeVar, Union
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    Tag,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic import dataclasses as validated
from typing_extensions import TypeAliasType, TypedDict

from tests.support.annotations import canonical
from yadtq.errors import Discard, InvalidArguments
from yadtq.signature import TaskSignature, untyped_arguments
from yadtq.wire.codec import CodecError, refuse_unreadable
from yadtq.wire.envelope import decode_envelope, encode_task

T = TypeVar("T")
UserId = NewType("UserId", int)
#: Given parameters at run time, which a type checker can't follow.
_union: Any = Union
Tree: Any = TypeAliasType("Tree", _union[int, "list[Tree]"])


class Bits(enum.Flag):
    A = 1
    B = 2


class Level(enum.IntEnum):
    LOW = 1


class Compound(enum.Enum):
    A = (1, 2)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    n: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    n: float


class Kitten(Cat):
    weeks: int = 3


def kind_of(value: Any) -> str:
    return "cat" if isinstance(value, Cat) or (isinstance(value, dict) and value.get("kind") == "cat") else "dog"


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Called = Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(kind_of)]


class Numbers(RootModel[set[int]]):
    pass


class Box(BaseModel, Generic[T]):
    item: T


class Shelf(BaseModel, Generic[T]):
    boxes: dict[str, Box[T]]


class Nested(BaseModel):
    class Inner(BaseModel):
        model_config = ConfigDict(alias_generator=str.upper)
        count: int = 7
        first: int = Field(default=1, validation_alias=AliasPath("p", 0), serialization_alias="q")

    inner: Inner = Field(alias="IN")


class ByNameOnly(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
    a: int = Field(default=0, alias="b")


class Row(TypedDict):
    a: Required[int]
    b: NotRequired[date]


@dataclass
class Late:
    a: int
    b: int = dataclasses.field(init=False, default=9)


@dataclass
class Seeded:
    a: int
    seed: InitVar[int]

    def __post_init__(self, seed: int) -> None:
        self.a += seed


@dataclass(slots=True, frozen=True)
class Slotted:
    a: int
    b: date


@dataclass
class Link:
    value: int
    next: Link | None = None


@dataclass
class Lazy:
    a: int

    @functools.cached_property
    def twice(self) -> int:
        return self.a * 2


@validated.dataclass(config=ConfigDict(extra="allow"))
class Loose:
    a: int


class Node(BaseModel):
    children: list[Node] = []


class Before(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def more(cls, data: Any) -> Any:
        return {**data, "a": data["a"] + 1} if isinstance(data, dict) else data


class Wrapped(BaseModel):
    a: int

    @model_validator(mode="wrap")
    @classmethod
    def checked(cls, data: Any, handler: Any) -> Any:
        return handler(data)


class Replaced(BaseModel):
    a: int

    @model_serializer
    def other(self) -> dict[str, int]:
        return {"a": 5}


class Spelled(BaseModel):
    a: int

    @field_serializer("a")
    def text(self, value: int) -> str:
        return str(value)


class Prepared(BaseModel):
    a: int
    _twice: int = PrivateAttr(default=0)

    def model_post_init(self, _: Any) -> None:
        self._twice = self.a * 2


class Hexed(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
    data: bytes


class Mixed(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    data: bytes


class Rounded(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")
    lasts: timedelta


class Broken(BaseModel):
    a: int

    @field_serializer("a")
    def fail(self, _: int) -> str:
        raise KeyError("no\nsuch")


class Text(str):
    __slots__ = ()


class Array:
    """Compares item by item, and refuses to be true or false, as NumPy's do."""

    def __eq__(self, _: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def doubled(value: int) -> int:
    return value * 2


def _loose() -> Loose:
    made: Any = Loose
    loose: Loose = made(a=1, z=2)
    return loose


def _used(lazy: Lazy) -> Lazy:
    assert lazy.twice
    return lazy


def _chain(length: int) -> Link | None:
    link = None
    for value in range(length):
        link = Link(value, link)
    return link


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def task_of(hint: Any) -> TaskSignature:
    def task(x: Any, y: Any = None) -> Any: ...

    task.__annotations__ = {"x": hint, "y": hint, "return": hint}
    return TaskSignature("task", task)


def sent(signature: TaskSignature, value: Any) -> bytes:
    record = encode_task("id", "task", *signature.to_wire((value,), {}))
    refuse_unreadable(record)
    return record


#: Annotation, and values of it that arrive both ways.
TRAVELS: list[tuple[Any, Sequence[Any]]] = [
    (Pet, [Cat(n=1), Dog(n=math.nan)]),
    (list[Pet], [[Cat(n=1), Dog(n=1.5)]]),
    (Called, [Cat(n=1), Dog(n=1.0)]),
    (Numbers, [Numbers({1, 2})]),
    (dict[str, Numbers], [{"a": Numbers({1})}]),
    (Box[date], [Box[date](item=date(2026, 1, 1))]),
    (Shelf[date], [Shelf[date](boxes={"a": Box[date](item=date(2026, 1, 1))})]),
    (Nested, [Nested(IN=Nested.Inner.model_validate({"COUNT": 3, "p": [5]}))]),
    (ByNameOnly, [ByNameOnly.model_validate({"a": 3})]),
    (Row, [{"a": 1}, {"a": 1, "b": date(2026, 1, 1)}]),
    (Late, [Late(1)]),
    (Slotted, [Slotted(1, date(2026, 1, 1))]),
    (Link, [_chain(1), _chain(40)]),
    (Lazy, [_used(Lazy(2)), Lazy(1)]),
    (Loose, [Loose(a=1)]),
    (Node, [Node(children=[Node(), Node(children=[Node()])])]),
    (Wrapped, [Wrapped(a=1)]),
    (Spelled, [Spelled(a=1)]),
    (Prepared, [Prepared(a=1)]),
    (Hexed, [Hexed.model_construct(data=b"\xff\x00")]),
    (Tree, [1, [1, [2]], _deep(100)]),
    (UserId, [1]),
    (Level, [Level.LOW]),
    (Bits, [Bits.A, Bits.A | Bits.B]),
    (defaultdict[str, list[int]], [defaultdict(list, {"a": [1]})]),
    (Counter[str], [Counter("aab")]),
    (deque[int], [deque([1, 2])]),
    (OrderedDict[str, int], [OrderedDict(b=1, a=2)]),
    (dict[UUID, date], [{UUID(int=1): date(2026, 1, 1)}]),
    (dict[Decimal, int], [{Decimal("1.0"): 1}]),
    (dict[float, int], [{1.0: 1, -0.5: 2, math.inf: 3}]),
    (set[frozenset[int]], [{frozenset({1, 2})}]),
    (set[tuple[int, str]], [{(1, "a"), (2, "b")}]),
    (Decimal, [Decimal("1.10"), Decimal("-0"), Decimal("1E+3")]),
    (complex, [complex(0.0, -1.5), complex(math.inf, 1)]),
    (Fraction, [Fraction(1, 3)]),
    (timedelta, [timedelta(-1, microseconds=1), timedelta(days=9)]),
    (datetime, [datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3)))]),
    (IPv6Interface, [IPv6Interface("fe80::1/64")]),
    (int | float, [1, 1.0, -0.0, 2**70]),
    (Literal[1, "1", True, None], [1, "1", True, None]),
    (str, ["\x00", "\u2028", "a" * 100_000]),
]

#: Annotation, and values of it that are refused both ways.
REFUSED: list[tuple[Any, Sequence[Any]]] = [
    (Pet, [Kitten(n=1)]),
    (Box, [Box(item=(1,)), Box[int](item=1)]),
    (Loose, [_loose()]),
    (Seeded, [Seeded(1, 2)]),
    (Replaced, [Replaced(a=1)]),
    (Before, [Before.model_construct(a=1)]),
    (Broken, [Broken(a=1)]),
    (Mixed, [Mixed(data=b"ab")]),
    (Rounded, [Rounded(lasts=timedelta(days=999_999, microseconds=1))]),
    (BaseModel, [Cat(n=1)]),
    (Row, [{}, {"a": "x"}]),
    (Compound, [Compound.A]),
    (deque[int], [deque([1], 3)]),
    (defaultdict[str, int], [defaultdict(lambda: 0, a=1)]),
    (dict[frozenset[int], int], [{frozenset({1}): 1}]),
    (dict[float, int], [{math.nan: 1}]),
    (dict[Literal[1, "1"], int], [{1: 1}]),
    (set[Any], [{(1,)}]),
    (type[Cat], [Cat]),
    (Sequence[int], [deque([1])]),
    (bytes | str, ["a"]),
    (timedelta | str, ["P1D"]),
    (str, ["\ud800"]),
    (Path, [Path("\udcff")]),
    (datetime, [datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1)))]),
    (
        Any,
        [{Text("a"): 1}, Text("a"), Level.LOW, b"a", Array(), iter([1]), OrderedDict(a=1), SecretStr("x"), [range(2)]],
    ),
    (Mapping[str, Any], [{"a": (1,)}]),
    (Tree, [_deep(250), _deep(5_000)]),
    (list, [_deep(250), _deep(5_000)]),
]


def name(part: Any) -> str:
    return "" if type(part) is list else str(part)[:40]  # not of values: some are too deep to be shown


@pytest.mark.parametrize(("hint", "values"), TRAVELS, ids=name)
def test_it_travels(hint: Any, values: Sequence[Any]) -> None:
    signature = task_of(hint)
    for value in values:
        ((arrived,), _) = signature.from_wire(decode_envelope(sent(signature, value)))
        assert canonical(arrived) == canonical(value)
        assert canonical(signature.decode_result(signature.encode_result(value))) == canonical(value)


def _refusals(hint: Any, value: Any) -> list[str]:
    signature = task_of(hint)
    with pytest.raises((InvalidArguments, CodecError)) as refused:
        sent(signature, value)
    with pytest.raises(Discard) as failed:
        signature.encode_result(value)
    return [str(refused.value), str(failed.value)]


@pytest.mark.parametrize(("hint", "values"), REFUSED, ids=name)
def test_it_is_refused(hint: Any, values: Sequence[Any]) -> None:
    for value in values:
        for message in _refusals(hint, value):
            assert message.isprintable()
            assert len(message) < 2_000


def test_what_contains_itself_or_is_shared_ends_at_once() -> None:
    endless: list[Any] = []
    endless.append(endless)
    tuples: Any = ()
    for _ in range(5_000):
        tuples = (tuples,)
    link = Link(1)
    link.next = link
    node = Node()
    node.children.append(node)
    shared: Any = (1,)
    for _ in range(12):
        shared = [shared, shared]
    started = time.process_time()
    for hint, value in [
        (Any, endless),
        (Any, tuples),
        (Any, {"a": endless}),
        (Tree, endless),
        (Link, link),
        (Node, node),
        (Any, shared),
    ]:
        _refusals(hint, value)
    assert time.process_time() - started < 10


def test_validators_run_once_in_any_nesting() -> None:
    for hint, given, expected in [
        (Before, {"a": 1}, Before.model_construct(a=2)),
        (Annotated[int, AfterValidator(doubled), AfterValidator(doubled)], 1, 4),
        (Annotated[int, BeforeValidator(doubled), PlainSerializer(str)], 1, 2),
        (tuple[Annotated[int, AfterValidator(doubled)], ...], (1, 2), (2, 4)),
        (dict[str, list[Annotated[int, AfterValidator(doubled)]]], {"a": [1]}, {"a": [2]}),
    ]:
        signature = task_of(hint)
        ((arrived,), _) = signature.from_wire(decode_envelope(sent(signature, given)))
        assert arrived == expected


class TestAdvice:
    """A message names an annotation only if the value travels with it."""

    @pytest.mark.parametrize(
        ("value", "annotation"),
        [
            ((1, 2), "tuple[int, int]"),
            ((1, 2, 3, 4), "tuple[int, ...]"),
            ((1, "a", None, 2), "tuple[int | str | None, ...]"),
            ([(1, "a")], "list[tuple[int, str]]"),
            ({"a": {1, 2}}, "dict[str, set[int]]"),
            ({1: "a"}, "dict[int, str]"),
            (date(2026, 1, 1), "date"),
            (Slotted(1, date(2026, 1, 1)), "Slotted"),
            (b"a", "bytes"),
        ],
    )
    def test_of_a_value_without_an_annotation(self, value: Any, annotation: str) -> None:
        argument, result = _refusals(Any, value)
        assert argument.endswith(f": annotate it (x: {annotation}), or use plain data")
        assert result.endswith(f": annotate it (-> {annotation}), or use plain data")

    @pytest.mark.parametrize(
        "value", [SecretStr("x"), object(), {None: 1}, Text("a"), b"\xff", Array(), collections.ChainMap()]
    )
    def test_none_where_none_helps(self, value: Any) -> None:
        for message in _refusals(Any, value):
            assert message.endswith(": use plain data, or annotate its type")

    def test_a_task_known_by_name_only_has_nothing_to_annotate(self) -> None:
        with pytest.raises(InvalidArguments, match=r"tuple.*: use plain data, or submit the task itself, annotated"):
            untyped_arguments("t", ((1,),), {})

    def test_long_paths_are_cut(self) -> None:
        value: Any = (1,)
        for _ in range(150):
            value = {"k" * 50: value}
        for message in _refusals(Any, value):
            assert len(message) < 500


def test_all_wrong_arguments_are_named_at_once() -> None:
    signature = task_of(date)
    with pytest.raises(InvalidArguments, match=r"x: .*valid date.*; y: .*valid date"):
        signature.to_wire(("a", "b"), {})
    with pytest.raises(InvalidArguments, match=r"x: .*tuple.*; y: .*set"):
        task_of(Any).to_wire(((1,),), {"y": {1}})


def test_validate_raises_nothing_else() -> None:
    def fails(value: int) -> int:
        raise KeyError("no\nsuch")

    with pytest.raises(InvalidArguments) as refused:
        task_of(Annotated[int, AfterValidator(fails)]).validate((1,), {})
    assert "\n" not in str(refused.value)
