"""What arrives is what was sent, or it is refused: each kind of annotation and value that has its own trap."""

from __future__ import annotations

import enum
import math
import re
from collections import Counter, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
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
    SecretStr,
    computed_field,
)
from pydantic_core import core_schema

from yadtq import TaskContext
from yadtq.delivery.delivery import Delivery
from yadtq.errors import ConfigError, Discard, InvalidArguments, ResultUnreadable
from yadtq.handle import TaskHandle
from yadtq.signature import TaskSignature, untyped_arguments
from yadtq.wire.codec import CodecError, decode, refuse_unreadable
from yadtq.wire.envelope import Envelope, decode_envelope, encode_envelope, encode_task
from yadtq.wire.states import TaskStatus

UTC = timezone.utc  # noqa: UP017


#: A default that is not of the annotated type, and would not be read as it.
NONE: Any = None
#: Without a zone, on purpose.
NEW_YEAR = datetime(2026, 1, 1)  # noqa: DTZ001


def double(value: int) -> int:
    return value * 2


def split(value: Any) -> Any:
    return value.split(",")


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    A = "a"


class Pair(NamedTuple):
    a: int
    b: str


class Login(BaseModel):
    password: SecretStr


class Shouted(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper)
    a: int = 7


class Excluded(BaseModel):
    a: int = Field(default=0, exclude=True)


class Base(BaseModel):
    a: int


class Sub(Base):
    b: int = 2


class Strictly(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date
    key: UUID
    pair: tuple[int, int]
    colour: Colour


class Renamed(BaseModel):
    x: int = Field(validation_alias="uid")


class Listed(BaseModel):
    items: Json[list[int]]


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.a * 2


class Measured(BaseModel):
    value: float


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Private(BaseModel):
    a: int
    _token: str = PrivateAttr(default="")


class Doubled(BaseModel):
    a: Annotated[int, AfterValidator(double)]


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Wide:
    x: float | date
    y: int


class Thing:
    """Without an equality of its own; below zero, another one is read than was written."""

    def __init__(self, value: int) -> None:
        self.value = value

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, cls) else cls(max(given, 0)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda thing: thing.value),
        )


@dataclass
class Tagged:
    tags: set[str]
    thing: Thing
    weight: float = 0.0


def private() -> Private:
    made = Private(a=1)
    made._token = "t"
    return made


def task_of(hint: Any) -> TaskSignature:
    def task(x: Any) -> Any: ...

    task.__annotations__ = {"x": hint, "return": hint}
    return TaskSignature("task", task)


def through_kafka(signature: TaskSignature, *args: Any, **kwargs: Any) -> Envelope:
    record = encode_task("id", "task", *signature.to_wire(args, kwargs))
    refuse_unreadable(record)
    return decode_envelope(record)


def alike(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


#: Annotation, and values that arrive both ways, as arguments and as results.
TRAVELS: list[tuple[Any, Any]] = [
    (float | None, math.inf),
    (float, math.nan),
    (list[float], [math.nan, -0.0]),
    (Shouted, Shouted.model_validate({"A": 1})),
    (Swapped, Swapped(a=2, b=1)),
    (Excluded, Excluded(a=0)),
    (Strictly, Strictly(day=date(2026, 1, 1), key=UUID(int=3), pair=(1, 2), colour=Colour.RED)),
    (Renamed, Renamed.model_validate({"uid": 3})),
    (Listed, Listed.model_validate({"items": "[1]"})),
    (Computed, Computed(a=3)),
    (Measured, Measured(value=math.nan)),
    (dict[int, str], {1: "a"}),
    (datetime | str, NEW_YEAR),
    (datetime | str, "2026-01-01"),
    (UUID | str, UUID(int=3)),
    (date | datetime, NEW_YEAR),
    (date | datetime, date(2026, 1, 1)),
    (Word | str, "x"),
    (set[int] | list[int], [1]),
    (int | bool, True),
    (Literal[1, True], True),
    (re.Pattern, re.compile("a")),
    (Private, Private(a=1)),
    (Pair, Pair(1, "a")),
    (tuple[int, ...], (1, 2)),
    (frozenset[int], frozenset({1, 2})),
    (Point, Point(1.5)),
    (complex, 1 + 2j),
    (int, 10**4299),
    (Any, [1, 2.5, "a", None, True, {"a": []}]),
    (float | Annotated[int, PlainSerializer(str)], 0.5),
]

#: Annotation, value, and words of the refusal, as an argument and as a result.
REFUSED: list[tuple[Any, Any, str]] = [
    (SecretStr, SecretStr("hunter2"), "would arrive"),
    (Login, Login(password=SecretStr("hunter2")), "would arrive"),
    (Any, SecretStr("hunter2"), "SecretStr|would arrive"),
    (Excluded, Excluded(a=2), "would arrive"),
    (dict[str | None, int], {None: 1}, "would arrive"),
    (dict[int | str, str], {1: "a", "1": "b"}, "would arrive"),
    (dict[tuple[int, int], str], {(1, 2): "a"}, "read back"),
    (dict, {1: "a"}, "key of type int|would arrive"),
    (str | Path, Path("a"), "would arrive"),
    (UUID | str, str(UUID(int=3)), "would arrive"),
    (Colour | str, Colour.RED, "would arrive"),
    (Word | str, Word.A, "would arrive"),
    (set[int] | list[int], {1}, "would arrive"),
    (tuple[int, ...] | list[int], (1,), "would arrive"),
    (Literal[Colour.RED], Colour.RED, "read back"),
    (Base, Sub(a=1, b=3), "would arrive"),
    (re.Pattern, re.compile("a", re.IGNORECASE), "would arrive"),
    (Private, private(), "would arrive"),
    (Doubled, Doubled(a=1), "would arrive"),
    (deque[int], deque([1], maxlen=3), "would arrive"),
    (datetime, NEW_YEAR.replace(fold=1), "would arrive"),
    (time, time(1, 2, tzinfo=ZoneInfo("Europe/Berlin")), "would arrive"),
    (Any, (1, 2), "tuple|would arrive"),
    (Any, timedelta(1), "timedelta|would arrive"),
    (Any, Point(1.0), "Point|would arrive"),
    (list[Any], [[(1,)]], "tuple|would arrive"),
    (bytes, b"\xff", "JSON form"),
    (object, object(), "object"),
    (int, None, "valid integer"),
    (Annotated[int, Field(gt=0)], -1, "greater than 0"),
    (Annotated[float, Field(allow_inf_nan=False)], math.nan, "finite"),
]


@pytest.mark.parametrize(("hint", "value"), TRAVELS, ids=lambda part: str(part)[:40])
def test_it_travels(hint: Any, value: Any) -> None:
    signature = task_of(hint)
    ((arrived,), _) = signature.from_wire(through_kafka(signature, value))
    assert alike(arrived, value)
    assert alike(signature.decode_result(signature.encode_result(value)), value)


@pytest.mark.parametrize(("hint", "value", "words"), REFUSED, ids=lambda part: str(part)[:40])
def test_it_is_refused(hint: Any, value: Any, words: str) -> None:
    signature = task_of(hint)
    with pytest.raises(InvalidArguments, match=rf"x: .*({words})") as refused:
        signature.to_wire((value,), {})
    with pytest.raises(Discard, match=words) as failed:
        signature.encode_result(value)
    assert "\n" not in f"{refused.value}{failed.value}"
    assert "hunter2" not in f"{refused.value}{failed.value}"


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (Annotated[int, AfterValidator(double)], 1, 2),
        (list[Annotated[int, AfterValidator(double)]], [1], [2]),
        (Doubled, {"a": 1}, Doubled(a=1)),
        (Base64Bytes, b"YUdWc2JHOD0=", b"aGVsbG8="),
        (Json[list[int]], "[1]", [1]),
        (Annotated[list[str], BeforeValidator(split)], "a,b", ["a", "b"]),
        (SecretStr, "hunter2", SecretStr("hunter2")),
        (Renamed, {"x": 3}, Renamed.model_validate({"uid": 3})),
        (Renamed, {"uid": 3}, Renamed.model_validate({"uid": 3})),
        (dict[str, int], Counter("aab"), {"a": 2, "b": 1}),
        (int, True, 1),
    ],
    ids=lambda part: str(part)[:40],
)
def test_validators_see_what_was_given_and_see_it_once(hint: Any, given: Any, expected: Any) -> None:
    signature = task_of(hint)
    assert alike(signature.validate((given,), {})[0][0], expected)
    assert alike(signature.from_wire(through_kafka(signature, given))[0][0], expected)


def test_numbers_that_no_parser_reads() -> None:
    signature = task_of(int)
    for number in (10**4300, -(10**5000)):
        with pytest.raises(CodecError, match="out of range"):
            through_kafka(signature, number)
        with pytest.raises(Discard, match="out of range"):
            signature.encode_result(number)
    text = task_of(str)
    through_kafka(text, "1" * 10_000)  # as text they may be as long as they like


def test_untyped_results_keep_what_strict_json_has_no_word_for() -> None:
    for hint in (Any, dict):
        signature = task_of(hint)
        value: Any = {"a": math.inf, "b": -math.inf}
        payload = signature.encode_result(value)
        assert signature.decode_result(payload) == decode(payload) == value
    assert math.isnan(task_of(Any).decode_result(task_of(Any).encode_result(math.nan)))
    # A record has to be strict JSON, for everybody who reads the topic.
    with pytest.raises(InvalidArguments, match=r"x: \['a'\] is inf"):
        task_of(dict).to_wire(({"a": math.inf},), {})


def test_results_of_a_close_relative_arrive_as_annotated() -> None:
    """An int for a float, a Counter for a dict: equal, and what the annotation promises."""
    assert alike(task_of(float).decode_result(task_of(float).encode_result(0)), 0.0)
    tally = task_of(dict[str, int])
    assert alike(tally.decode_result(tally.encode_result(Counter("aab"))), {"a": 2, "b": 1})
    with pytest.raises(Discard):
        task_of(float).encode_result(2**53 + 1)
    with pytest.raises(Discard):
        task_of(int).encode_result(True)


def test_a_zone_travels_as_its_offset() -> None:
    signature = task_of(datetime)
    for fold in (0, 1):  # the hour that the clock repeats
        moment = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
        ((arrived,), _) = signature.from_wire(through_kafka(signature, moment))
        assert arrived.timestamp() == moment.timestamp()
        assert arrived.utcoffset() == moment.utcoffset()


def test_an_int_for_a_float_is_written_as_a_number() -> None:
    for hint, value, expected in [
        (Point, Point(1), Point(1.0)),
        (float | date, 2**60, 2.0**60),
        (list[float | int], [1, 1.0], [1, 1.0]),
        (list[Wide], [Wide(1, 10**400)], [Wide(1.0, 10**400)]),
    ]:
        signature = task_of(hint)
        assert repr(signature.decode_result(signature.encode_result(value))) == repr(expected)
    # Written as text, it would be read as a float. As it was given, it is read as what it is.
    texts = task_of(list[list[float | Annotated[int, PlainSerializer(str)]]])
    assert repr(texts.from_wire(through_kafka(texts, [[0]]))) == "(([[0]],), {})"
    with pytest.raises(Discard, match=r"would arrive as \[\[0.0\]\]"):
        texts.encode_result([[0]])


def test_the_order_in_which_a_set_is_written_is_no_difference() -> None:
    signature = task_of(Tagged)
    for n in range(50):  # the order is another one for the set that was read, in about one of six
        tags = {f"{n}-{m}" for m in range(6)}
        arrived = signature.decode_result(signature.encode_result(Tagged(tags, Thing(1))))
        assert (arrived.tags, arrived.thing.value) == (tags, 1)
        signature.to_wire((Tagged(tags, Thing(1), weight=2),), {})
    with pytest.raises(InvalidArguments, match="would arrive"):
        signature.to_wire((Tagged({"a", "b"}, Thing(-1)),), {})


async def test_a_result_of_another_version_is_one_typed_line() -> None:
    class Source:
        async def status(self, task_id: str) -> TaskStatus:
            raise NotImplementedError

        async def final_payload(self, task_id: str, timeout: float | None) -> bytes:
            return b'{"a": "x"}'

    handle: TaskHandle[Base] = TaskHandle("id-1", Source(), task_of(Base).decode_result)
    with pytest.raises(ResultUnreadable, match=r"id-1.*not what this version.*a: Input should be") as caught:
        await handle.result()
    assert "\n" not in str(caught.value)


class TestParameters:
    def test_an_alias_is_one_more_name(self) -> None:
        def task(
            x: int = Field(default=0, validation_alias="uid"), *, y: Annotated[int, Field(alias="why")] = 1
        ) -> None: ...

        signature = TaskSignature("task", task)
        for args, kwargs in (((5,), {}), ((), {"x": 5}), ((), {"uid": 5})):
            arrived, named = signature.from_wire(through_kafka(signature, *args, **kwargs))
            assert [*arrived, *named.values()][0] == 5
        assert signature.from_wire(through_kafka(signature, why=3))[1]["y"] == 3
        assert signature.from_wire(Envelope(id="i", task="task"))[1] == {"x": 0, "y": 1}

    def test_aliases_to_choose_from(self) -> None:
        def task(x: Annotated[int, Field(validation_alias=AliasChoices("a", "b"))]) -> None: ...

        signature = TaskSignature("task", task)
        for name in ("a", "b", "x"):
            assert signature.from_wire(through_kafka(signature, **{name: 5})) == ((), {"x": 5})

    def test_an_alias_for_writing_changes_nothing(self) -> None:
        def task(x: Annotated[int, Field(serialization_alias="out")] = 0, *, y: int = Field(alias="why")) -> None: ...

        signature = TaskSignature("task", task)
        assert signature.from_wire(through_kafka(signature, 5, why=3)) == ((5,), {"y": 3})
        assert signature.from_wire(through_kafka(signature, x=5, y=3)) == ((), {"x": 5, "y": 3})

    def test_only_what_was_given_is_sent(self) -> None:
        def task(a: int, b: int = NONE, /, c: Any = NONE, *, d: list[int] = [], e: Any = ()) -> None: ...  # noqa: B006

        signature = TaskSignature("task", task)
        assert signature.to_wire((1,), {}) == ([1], {})
        assert signature.to_wire((1, 2), {"d": [3]}) == ([1, 2], {"d": [3]})

    def test_a_default_that_an_attempt_can_change_is_its_own(self) -> None:
        def task(a: list[int] = [], *, b: Any = {}, c: set[int] = {1}) -> None: ...  # noqa: B006

        signature = TaskSignature("task", task)
        envelope = Envelope(id="i", task="task")
        first = signature.from_wire(envelope)[1]
        first["a"].append(1)
        first["b"]["x"] = 1
        first["c"].clear()
        assert signature.from_wire(envelope)[1] == {"a": [], "b": {}, "c": {1}}

    def test_an_attempt_owns_its_arguments(self) -> None:
        def task(a, b: list[Any], *rest: Any, c: dict[str, Any], **more: Any) -> None: ...

        signature = TaskSignature("task", task)
        envelope = through_kafka(signature, [[1]], [[2]], {"x": [3]}, c={"y": [4]}, z=[[5]])
        record: Any = SimpleNamespace(topic="t", value=encode_envelope(envelope))
        delivery = Delivery(record, envelope, None, source=NONE, now=0.0)
        for _ in range(3):
            (a, b, rest), named = signature.from_wire(delivery.envelope_for_attempt())
            assert (a, b, rest, named) == ([[1]], [[2]], {"x": [3]}, {"c": {"y": [4]}, "z": [[5]]})
            for inside in (a[0], b[0], rest["x"], named["c"]["y"], named["z"][0]):
                inside.clear()

    def test_each_of_the_rest_is_looked_at(self) -> None:
        def task(*rest: date, **more: set[int] | list[int]) -> None: ...

        signature = TaskSignature("task", task)
        envelope = through_kafka(signature, date(2026, 1, 1), date(2026, 1, 2), a=[1])
        assert signature.from_wire(envelope) == ((date(2026, 1, 1), date(2026, 1, 2)), {"a": [1]})
        with pytest.raises(InvalidArguments, match="more: it would arrive"):
            signature.to_wire((), {"b": {1}})

    def test_a_foreign_record_is_read_by_the_same_rules(self) -> None:
        def task(day: date, order: Shouted, n: int) -> None: ...

        signature = TaskSignature("task", task)
        record = b'{"v":1,"id":"i","task":"task","args":["2026-01-01"],"kwargs":{"order":{"A":3},"n":"5"}}'
        args, kwargs = signature.from_wire(decode_envelope(record))
        assert (args, kwargs) == ((date(2026, 1, 1),), {"order": Shouted.model_validate({"A": 3}), "n": 5})
        with pytest.raises(InvalidArguments, match="order: a: Input should be a valid integer"):
            signature.from_wire(Envelope(id="i", task="task", args=["2026-01-01", {"a": "x"}, 1]))

    def test_a_validator_that_raises_anything_is_a_refusal(self) -> None:
        def fails(value: Any) -> Any:
            raise KeyError("no\nsuch")

        with pytest.raises(InvalidArguments) as refused:
            task_of(Annotated[int, AfterValidator(fails)]).to_wire((1,), {})
        assert "\n" not in str(refused.value)

    def test_the_context_in_other_words(self) -> None:
        def task(ctx: TaskContext | None, x: int) -> None: ...

        signature = TaskSignature("task", task)
        assert signature.takes_context
        assert signature.to_wire((1,), {}) == ([1], {})

    def test_a_type_whose_schema_raises_anything(self) -> None:
        class Odd:
            @classmethod
            def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
                raise KeyError("odd")

        with pytest.raises(ConfigError, match="task 'task': 'odd'"):
            task_of(Odd)


def test_by_name_only_json_data() -> None:
    assert untyped_arguments("t", ([1, {"a": None}],), {"x": "y"}) == ([[1, {"a": None}]], {"x": "y"})
    for value, words in [
        ((1,), "argument 0: it is of type tuple"),
        ({"a": [0, {1: 2}]}, r"argument 0: \['a'\]\[1\] is a dict with a key of type int"),
        (math.nan, "argument 0: it is nan"),
        (Word.A, "argument 0: it is of type Word"),
    ]:
        with pytest.raises(InvalidArguments, match=words):
            untyped_arguments("t", (value,), {})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidArguments, match="nested too deeply"):
        untyped_arguments("t", (), {"x": endless})


class TestFingerprint:
    def test_it_is_that_of_what_is_read(self) -> None:
        def one(x: int, y: str = "a") -> Base: ...  # type: ignore[empty-body]

        def same(x: int, y: str = "b") -> Base:
            """Another default and another text change nothing on the wire."""
            raise NotImplementedError

        def renamed(x: int, z: str = "a") -> Base: ...  # type: ignore[empty-body]

        def retyped(x: float, y: str = "a") -> Base: ...  # type: ignore[empty-body]

        def other_result(x: int, y: str = "a") -> Sub: ...  # type: ignore[empty-body]

        names = [TaskSignature("t", task).fingerprint for task in (one, same, renamed, retyped, other_result)]
        assert names[0] == names[1]
        assert len(set(names)) == 4
        assert all(re.fullmatch("[0-9a-f]{12}", name) for name in names)

    def test_of_types_without_a_schema_for_people(self) -> None:
        assert task_of(Base64Bytes).fingerprint != task_of(Any).fingerprint
        assert task_of(complex).fingerprint == task_of(complex).fingerprint


def test_the_page_on_types_is_true() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "types.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    # Not a module: annotations are evaluated in the names of this dict.
    exec(compile("\n".join(blocks), "types.md", "exec", dont_inherit=True), {"__name__": "types_page"})
