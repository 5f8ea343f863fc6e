"""A task's definition: what a signature says of arguments and results, and which signatures are refused."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from yadtq import TaskContext, Yadtq
from yadtq.errors import ConfigError, Discard, InvalidArguments
from yadtq.wire.codec import CodecError

UTC = timezone.utc  # noqa: UP017


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    id: int
    colour: Colour = Colour.RED


@dataclass
class Point:
    x: float
    y: float = 0.0


@pytest.fixture
def app() -> Yadtq:
    return Yadtq("t")


class TestArguments:
    def test_they_come_as_annotated(self, app: Yadtq) -> None:
        @app.task
        async def work(
            n: int,
            point: Point,
            order: Order,
            at: datetime,
            key: UUID,
            kind: Literal["a", "b"],
            *rest: int,
            **more: float,
        ) -> None: ...

        key = UUID(int=7)
        args, kwargs = work.validate(
            ("5", {"x": 1}, {"id": "3"}, "2026-01-01T00:00:00Z", str(key), "b", "1", 2), {"extra": "0.5"}
        )
        assert args == (
            5,
            Point(1.0),
            Order(id=3),
            datetime(2026, 1, 1, tzinfo=UTC),
            key,
            "b",
            1,
            2,
        )
        assert kwargs == {"extra": 0.5}

    def test_defaults_are_left_to_the_function(self, app: Yadtq) -> None:
        @app.task
        async def work(a: int, b: int = 2, *, c: int = 3) -> None: ...

        args, kwargs = work.validate((1,), {})
        assert work(*args, **kwargs).close() is None
        assert args + tuple(kwargs.values()) in ((1,), (1, 2, 3))

    def test_without_annotations_anything_goes(self, app: Yadtq) -> None:
        @app.task
        def work(a, b=None):
            return a

        assert work.validate(({"any": ["thing"]},), {})[0][0] == {"any": ["thing"]}

    @pytest.mark.parametrize(
        ("args", "kwargs", "words"),
        [
            ((), {}, "Missing required argument"),
            ((1, 2, 3), {}, "Unexpected positional argument"),
            ((1,), {"z": 1}, "Unexpected keyword argument"),
            ((1,), {"x": 1}, "ultiple values"),
            (("many",), {}, "valid integer"),
            ((1.5,), {}, "valid integer"),
            ((1, "x" * 6), {}, "at most 5"),
        ],
    )
    def test_what_does_not_fit_is_said_in_one_line(
        self, app: Yadtq, args: tuple[Any, ...], kwargs: dict[str, Any], words: str
    ) -> None:
        @app.task
        async def work(x: int, y: Annotated[str, Field(max_length=5)] = "") -> None: ...

        with pytest.raises(InvalidArguments, match=words) as caught:
            work.validate(args, kwargs)
        assert caught.value.task == "work"
        assert "\n" not in str(caught.value)

    def test_a_wrong_value_of_megabytes_is_not_repeated(self, app: Yadtq) -> None:
        @app.task
        async def work(x: int) -> None: ...

        with pytest.raises(InvalidArguments) as caught:
            work.validate(("x" * 1_000_000,), {})
        assert len(str(caught.value)) < 300

    def test_the_context_is_no_argument_of_the_call(self, app: Yadtq) -> None:
        @app.task
        async def work(ctx: TaskContext, x: int) -> None: ...

        @app.task
        def sync_work(context: TaskContext) -> None: ...

        assert work.takes_context
        assert sync_work.takes_context
        assert work.validate(("3",), {}) == ((3,), {})
        assert sync_work.validate((), {}) == ((), {})
        with pytest.raises(InvalidArguments):
            work.validate((1, 2), {})


class TestResults:
    def test_by_the_annotation_there_and_back(self, app: Yadtq) -> None:
        @app.task
        async def work() -> dict[str, list[tuple[Point, Colour]]]: ...  # type: ignore[empty-body]

        value = {"a": [(Point(1.0, 2.0), Colour.RED)]}
        payload = work.encode_result(value)
        assert payload == b'{"a":[[{"x":1.0,"y":2.0},"red"]]}'
        assert work.decode_result(payload) == value

    def test_without_annotation_plain_data(self, app: Yadtq) -> None:
        @app.task
        def work():
            return None

        assert work.decode_result(work.encode_result({"n": [1, None]})) == {"n": [1, None]}
        with pytest.raises(Discard, match=r"annotate it \(-> dict\[str, datetime.timedelta\]\)"):
            work.encode_result({"at": timedelta(seconds=1)})

    @pytest.mark.parametrize("value", ["five", None, object(), 1.5])
    def test_another_type_than_promised_is_final(self, app: Yadtq, value: object) -> None:
        @app.task
        async def work() -> int: ...  # type: ignore[empty-body]

        with pytest.raises(Discard, match="return annotation of task 'work'"):
            work.encode_result(value)

    def test_what_has_no_json_form(self, app: Yadtq) -> None:
        @app.task
        def work() -> Any: ...

        with pytest.raises(Discard):
            work.encode_result(object())

    def test_what_no_client_could_read(self, app: Yadtq) -> None:
        @app.task
        def work() -> Any: ...

        deep: list[Any] = []
        for _ in range(230):
            deep = [deep]
        with pytest.raises(Discard, match="recursion"):
            work.encode_result(deep)
        assert work.encode_result([[]] * 1_000)

    def test_a_result_of_another_version_of_the_task(self, app: Yadtq) -> None:
        @app.task
        async def work() -> int: ...  # type: ignore[empty-body]

        with pytest.raises(CodecError, match="version"):
            work.decode_result(b'"text"')


class TestDefinitions:
    def test_name_queue_and_rules(self, app: Yadtq) -> None:
        @app.task(name="mail.send", queue="mail", retries=3, retry_base=0.5, retry_cap=9, timeout=2)
        async def send() -> None:
            """Sends."""

        assert (send.name, send.queue, send.timeout, send.is_async) == ("mail.send", "mail", 2, True)
        assert (send.retry.retries, send.retry.base_s, send.retry.cap_s) == (3, 0.5, 9)
        assert (getattr(send, "__name__", None), send.__doc__) == ("send", "Sends.")
        assert app.registry.find("mail.send") is send
        assert repr(send) == "<Task mail.send>"

    async def test_calling_it_calls_the_function(self, app: Yadtq) -> None:
        @app.task
        async def work(x: int) -> int:
            return x + 1

        assert await work(1) == 2

    def test_a_sync_function_and_a_method(self, app: Yadtq) -> None:
        class Mailer:
            def send(self, to: str) -> str:
                return to

        task = app.task(name="send")(Mailer().send)
        assert not task.is_async
        assert task.validate(("me",), {}) == (("me",), {})
        assert task("me") == "me"

    def test_generators_have_no_one_result(self, app: Yadtq) -> None:
        def work() -> Any:
            yield 1

        async def async_work() -> Any:
            yield 1

        for function in (work, async_work):
            with pytest.raises(ConfigError, match="yield"):
                app.task(function)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"timeout": 0}, "timeout"),
            ({"timeout": -1}, "timeout"),
            ({"timeout": math.inf}, "timeout"),
            ({"timeout": math.nan}, "timeout"),
            ({"retries": -1}, "retries"),
            ({"retry_base": -1}, "retry_base"),
            ({"retry_cap": -0.5}, "retry_cap"),
            ({"name": "x" * 201}, "name"),
        ],
    )
    def test_rules_that_make_no_sense(self, app: Yadtq, options: dict[str, Any], words: str) -> None:
        async def work() -> None: ...

        with pytest.raises(ConfigError, match=words):
            app.task(**options)(work)
        assert len(app.registry) == 0

    def test_types_that_can_not_be_had_at_run_time(self, app: Yadtq) -> None:
        def work(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        with pytest.raises(ConfigError, match="importable at run time"):
            app.task(work)

    def test_types_without_a_json_form(self, app: Yadtq) -> None:
        class Socket: ...

        def takes(x: Socket) -> None: ...

        def gives() -> Socket: ...  # type: ignore[empty-body]

        takes.__annotations__["x"] = gives.__annotations__["return"] = Socket
        for function in (takes, gives):
            with pytest.raises(ConfigError, match=function.__name__):
                app.task(function)

    def test_the_context_anywhere_but_first(self, app: Yadtq) -> None:
        def second(x: int, ctx: TaskContext) -> None: ...

        def twice(ctx: TaskContext, again: TaskContext) -> None: ...

        for function in (second, twice):
            with pytest.raises(ConfigError, match="first parameter"):
                app.task(function)

    @pytest.mark.parametrize("thing", [5, "work", functools.partial(print, 1), Point])
    def test_what_is_no_function(self, app: Yadtq, thing: Any) -> None:
        with pytest.raises(ConfigError, match="function"):
            app.task(name="thing")(thing)


class TestOptions:
    def test_they_are_for_one_submit(self, app: Yadtq) -> None:
        @app.task(retries=1)
        async def work() -> None: ...

        bound = work.options(task_id="a", queue="q", retries=5, timeout=1.5)
        assert (bound.task, work.retry.retries) == (work, 1)
        assert bound.options == {"task_id": "a", "queue": "q", "retries": 5, "timeout": 1.5}

    @pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": math.nan}, {"retries": -1}])
    def test_that_make_no_sense(self, app: Yadtq, wrong: dict[str, Any]) -> None:
        @app.task
        async def work() -> None: ...

        with pytest.raises(ConfigError):
            work.options(**wrong)

    async def test_a_submit_without_a_client(self, app: Yadtq) -> None:
        @app.task
        async def work() -> None: ...

        with pytest.raises(ConfigError, match="no connected client"):
            await work.submit()
        with pytest.raises(ConfigError, match="no connected client"):
            await work.options(retries=1).submit()
