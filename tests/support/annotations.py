"""Hypothesis strategies: an annotation, and values that somebody might give for it."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar, Union
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    Strict,
    computed_field,
    create_model,
)
from pydantic import dataclasses as validated
from typing_extensions import TypeAliasType, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Case", "canonical", "cases"]

#: An annotation, and a strategy for values of it.
Case = tuple[Any, st.SearchStrategy[Any]]
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


class Masked(str):
    __slots__ = ()


class Box(BaseModel, Generic[T]):
    item: T


class Base(BaseModel):
    a: int = 0


class Sub(Base):
    b: str = "b"


class Hidden(BaseModel):
    a: int = 0
    _secret: int = PrivateAttr(default=0)


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.a * 2


class Pair(NamedTuple):
    a: int
    b: str


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    n: float


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    n: int


class Items(RootModel[set[float]]):
    pass


class Branch(BaseModel):
    branches: list[Branch] = []
    leaf: int | str = 0


@dataclasses.dataclass
class Late:
    a: int
    b: int = dataclasses.field(init=False, default=9)
    c: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass
class Seeded:
    a: int
    seed: dataclasses.InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self.a += seed


@validated.dataclass(config=ConfigDict(extra="allow"))
class Loose:
    a: int


UserId = NewType("UserId", int)
_tree: Any = Union
Tree: Any = TypeAliasType("Tree", _tree[int, "list[Tree]", "dict[str, Tree]"])


def _loose(extra: dict[str, Any]) -> Any:
    made: Any = Loose
    return made(a=1, **extra)


def _doubled(value: Any) -> Any:
    return value * 2


def _split(value: Any) -> Any:
    return value.split(",")  # raises AttributeError for a list: it must not be seen as anything but a refusal


_text = st.text(max_size=6) | st.sampled_from(
    [
        "",
        "1",
        "true",
        "nan",
        "NaN",
        "null",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        str(UUID(int=5)),
        "PT1S",
        "[1]",
        "\ud800",
        "\x00",
    ]
)
_long = st.sampled_from([4298, 4299, 4300, 5000]).map(lambda digits: 10**digits)
_ints = st.integers() | st.booleans() | st.sampled_from([2**53 + 1, 2**64, Level.LOW]) | _long
_floats = st.floats()
_zones = st.sampled_from([None, timezone.utc, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Europe/Berlin")])  # noqa: UP017
_moments = st.datetimes(timezones=_zones) | st.just(
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_anything = st.recursive(
    _json
    | st.binary(max_size=3)
    | st.dates()
    | st.uuids()
    | st.just(SecretStr("pw"))
    | st.sampled_from([*Colour, Word.A, Base(a=1)]),
    lambda inner: (
        st.tuples(inner, inner)
        | st.dictionaries(st.none() | st.integers(0, 2) | st.text(max_size=1), inner, max_size=2)
    ),
    max_leaves=4,
)

_HASHABLE: list[Case] = [
    (int, _ints),
    (str, _text | st.just(Word.A)),
    (bool, st.booleans()),
    (float, _floats),
    (type(None), st.none()),
    (bytes, st.binary(max_size=4)),
    (date, st.dates()),
    (datetime, _moments),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False) | st.just(Decimal("NaN"))),
    (Path, st.sampled_from([Path("a"), Path("/b/c")])),
    (IPv4Address, st.just(IPv4Address("1.2.3.4"))),
    (complex, st.complex_numbers()),
    (Colour, st.sampled_from(Colour)),
    (Word, st.just(Word.A)),
    (Level, st.just(Level.LOW)),
    (Literal["a", "b"], st.sampled_from("ab")),
    (Literal[1, True, "1", None], st.sampled_from([1, True, "1", None])),
    (Literal[Colour.RED], st.just(Colour.RED)),
    (Annotated[int, AfterValidator(_doubled)], st.integers(-9, 9)),
    (Annotated[str, AfterValidator(_doubled)], _text),
    (Annotated[str, AfterValidator(str.lower)], _text),
    (Annotated[int, Field(gt=0, lt=10)], st.integers(-1, 11)),
    (Annotated[str, Field(min_length=1, pattern="^a")], _text | st.just("ab")),
    (Annotated[float, Field(allow_inf_nan=False)], st.floats()),
    (Annotated[int, PlainSerializer(str)], st.integers()),
    (Annotated[int, PlainSerializer(hex)], st.integers()),
    (Annotated[float, Strict()], st.floats()),
    (Annotated[date, Strict()], st.dates()),
    (Annotated[UUID, Strict()], st.uuids()),
    (SecretStr, st.builds(SecretStr, _text) | _text),
    (SecretBytes, st.builds(SecretBytes, st.binary(max_size=3))),
    (Base64Bytes, st.sampled_from([b"YUdWc2JHOD0=", b"YQ==", b"a"])),
]
_OTHERS: list[Case] = [
    (Any, _anything),
    (object, _anything),
    (dict, st.dictionaries(st.text(max_size=2) | st.integers(0, 2), _anything, max_size=2)),
    (list, st.lists(_anything, max_size=3)),
    (Json[list[int]], st.sampled_from(["[1]", "[]", "x", [1]])),
    (Annotated[list[str], BeforeValidator(_split)], st.sampled_from(["a,b", "", ["a"]])),
    (re.Pattern, st.sampled_from([re.compile("a"), re.compile("a", re.IGNORECASE)])),
    (Base, st.sampled_from([Base(a=1), Sub(a=1), {"a": "1"}])),
    (Hidden, st.just(Hidden(a=1))),
    (Computed, st.just(Computed(a=1))),
    (Pair, st.just(Pair(1, "a"))),
    (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        st.builds(Cat, n=_floats) | st.builds(Dog, n=st.integers()) | st.fixed_dictionaries({"kind": st.just("cat")}),
    ),
    (Cat | Dog, st.builds(Cat, n=_floats) | st.builds(Dog, n=st.integers())),
    (Items, st.builds(Items, st.sets(_floats, max_size=3))),
    (
        Branch,
        st.recursive(
            st.builds(Branch, leaf=st.integers() | _text.filter(lambda text: text.isprintable())),
            lambda inner: st.builds(Branch, branches=st.lists(inner, max_size=3)),
            max_leaves=6,
        ),
    ),
    (Late, st.builds(Late, st.integers(), c=st.integers())),
    (Seeded, st.builds(Seeded, st.integers(), st.integers(0, 2))),
    (Loose, st.builds(_loose, st.dictionaries(st.sampled_from(["b", "c"]), _anything, max_size=2))),
    (UserId, _ints),
    (Tree, _json),
    (deque[int], st.builds(deque, st.lists(st.integers(), max_size=3), maxlen=st.none() | st.just(5))),
    (defaultdict[str, list[int]], st.just(defaultdict(list, a=[1]))),
    (Counter[str], st.text(max_size=4).map(Counter)),
    (OrderedDict[str, Any], st.dictionaries(st.text(max_size=2), _anything, max_size=2).map(OrderedDict)),
]

_FIELDS: list[Callable[[Any, Any], Any]] = [
    lambda hint, _: (hint, ...),
    lambda hint, value: (hint, Field(default=value)),
    lambda hint, value: (hint, Field(default=value, alias="other")),
    lambda hint, _: (hint, Field(alias="b")),  # may be the name of a neighbour
    lambda hint, _: (hint, Field(validation_alias="uid")),
    lambda hint, value: (hint, Field(default=value, serialization_alias="out")),
    lambda hint, value: (hint, Field(default=value, validation_alias=AliasChoices("x", "y"))),
    lambda hint, value: (hint, Field(default=value, exclude=True)),
]
_CONFIGS: list[ConfigDict] = [
    ConfigDict(),
    ConfigDict(strict=True),
    ConfigDict(extra="forbid"),
    ConfigDict(extra="allow"),
    ConfigDict(alias_generator=str.upper),
    ConfigDict(alias_generator=str.upper, serialize_by_alias=True, validate_by_name=True),
    ConfigDict(frozen=True, ser_json_inf_nan="constants"),
    ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"),
    ConfigDict(ser_json_timedelta="float"),
    ConfigDict(revalidate_instances="always"),
    ConfigDict(str_strip_whitespace=True, use_enum_values=True),
    ConfigDict(coerce_numbers_to_str=True),
]


@st.composite
def _models(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    """A model and instances of it, made without validation as well as with it."""
    parts = {name: draw(inner) for name in draw(st.sampled_from([["a"], ["a", "b"]]))}
    values = {name: draw(values) for name, (_, values) in parts.items()}
    fields = {name: draw(st.sampled_from(_FIELDS))(hint, values[name]) for name, (hint, _) in parts.items()}
    try:
        model = create_model("Drawn", __config__=draw(st.sampled_from(_CONFIGS)), **fields)
    except Exception:  # two fields with one alias, say: no model of anybody's
        return int, st.integers()
    given = st.fixed_dictionaries({name: values for name, (_, values) in parts.items()})
    return model, given.map(lambda values: model.model_construct(**values)) | given


@st.composite
def _dataclasses(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    parts = {name: draw(inner) for name in ("a", "b")}
    kind = dataclasses.make_dataclass("Drawn", [(name, hint) for name, (hint, _) in parts.items()])
    return kind, st.builds(kind, **{name: values for name, (_, values) in parts.items()})


@st.composite
def _typed_dicts(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    parts = {name: draw(inner) for name in ("a", "b")}
    kind = TypedDict("Drawn", {name: hint for name, (hint, _) in parts.items()}, total=draw(st.booleans()))  # type: ignore[misc]
    return kind, st.fixed_dictionaries({name: values for name, (_, values) in parts.items()})


#: Given parameters at run time, which a type checker can't follow.
_GENERICS: list[Any] = [list, tuple, set, dict, Union, Box]
_list, _tuple, _set, _dict, _union, _box = _GENERICS


def _generic(case: Case) -> Case:
    hint, values = case
    kind = _box[hint]
    return kind, values.map(lambda value: kind.model_construct(item=value))


def _dict_of(keys: Case, values: Case) -> Case:
    return _dict[keys[0], values[0]], st.dictionaries(keys[1], values[1], max_size=3)


def _set_or_list_of(items: Case) -> Case:
    hint, values = items
    return _union[_set[hint], _list[hint]], st.sets(values, max_size=3) | st.lists(values, max_size=3)


def _composed(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    hashable = st.sampled_from(_HASHABLE)
    return st.one_of(
        inner.map(lambda case: (_list[case[0]], st.lists(case[1], max_size=3))),
        inner.map(lambda case: (_tuple[case[0], ...], st.lists(case[1], max_size=3).map(tuple))),
        inner.map(lambda case: (_union[case[0], None], st.none() | case[1])),
        hashable.map(lambda case: (_set[case[0]], st.sets(case[1], max_size=3))),
        hashable.map(_set_or_list_of),
        st.builds(_dict_of, hashable, inner),
        st.builds(lambda one, two: (_union[one[0], two[0]], one[1] | two[1]), inner, inner),
        st.builds(lambda one, two: (_tuple[one[0], two[0]], st.tuples(one[1], two[1])), inner, inner),
        inner.map(_generic),
        _models(inner),
        _dataclasses(inner),
        _typed_dicts(inner),
    )


cases: st.SearchStrategy[Case] = st.recursive(st.sampled_from([*_HASHABLE, *_OTHERS]), _composed, max_leaves=4)


def canonical(value: Any) -> Any:
    """Equal for two values if and only if they are the same, types and all. Written apart from the code that it judges."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return kind, value.name
    if isinstance(value, BaseModel):
        inside = {**value.__dict__, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
        return kind, {name: canonical(item) for name, item in inside.items()}
    if dataclasses.is_dataclass(value):
        names = {field.name for field in dataclasses.fields(value)} | {
            name for name in getattr(value, "__dict__", ()) if not hasattr(kind, name)
        }
        return kind, {name: canonical(getattr(value, name, None)) for name in names}
    if isinstance(value, dict):
        return kind, sorted(((canonical(key), canonical(item)) for key, item in value.items()), key=repr)
    if isinstance(value, list | tuple | deque):
        return kind, [canonical(item) for item in value], getattr(value, "maxlen", None)
    if isinstance(value, set | frozenset):
        return kind, sorted(map(canonical, value), key=repr)
    if isinstance(value, SecretStr | SecretBytes):
        return kind, canonical(value.get_secret_value())
    if isinstance(value, datetime | time):
        return kind, value.replace(tzinfo=None, fold=0).isoformat(), value.utcoffset()
    if isinstance(value, re.Pattern):
        return kind, value.pattern, value.flags
    if kind is int:
        return kind, hex(value)
    return kind, repr(value)
