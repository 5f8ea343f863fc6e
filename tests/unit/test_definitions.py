"""Definitions of tasks: what may be one, and that whatever can't is a `ConfigError` in one line."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import pytest

from yadtq import TaskContext, Yadtq
from yadtq.errors import ConfigError


@pytest.fixture
def app() -> Yadtq:
    return Yadtq("t")


class Broken:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise KeyError("a")


class TestContext:
    def test_every_way_to_annotate_it(self, app: Yadtq) -> None:
        async def optional(ctx: TaskContext | None = None, n: int = 0) -> None: ...
        async def old_optional(ctx: Optional[TaskContext], n: int = 0) -> None: ...  # noqa: UP045 - users write it
        async def annotated(ctx: Annotated[TaskContext, "mine"], n: int = 0) -> None: ...
        async def both(ctx: Annotated[TaskContext | None, "mine"] = None, n: int = 0) -> None: ...

        for function in (optional, old_optional, annotated, both):
            task: Any = app.task(function)
            assert task.takes_context, function.__name__
            assert task.validate((), {"n": 5}) == ((), {"n": 5}) or task.validate((), {"n": 5})[0] == (5,)

    def test_one_among_other_types_is_data(self, app: Yadtq) -> None:
        with pytest.raises(ConfigError):

            @app.task
            async def work(n: int, ctx: TaskContext | None = None) -> None: ...


class TestMethods:
    def test_a_method_is_refused(self, app: Yadtq) -> None:
        with pytest.raises(ConfigError, match=r"Mailer\.send is a method"):

            class Mailer:
                @app.task
                async def send(self, to: str) -> None: ...

        with pytest.raises(ConfigError, match="is a method"):

            class Other:
                @app.task
                async def send(cls, to: str) -> None: ...

    def test_a_function_kept_in_a_class_is_one(self, app: Yadtq) -> None:
        class Tasks:
            @app.task
            async def double(n: int) -> int:
                return 2 * n

        assert app.registry.get("double").name == "double"


class TestAgain:
    def test_a_cell_that_runs_twice_replaces_its_task(self, app: Yadtq) -> None:
        def cell(result: int) -> Any:
            @app.task
            async def work() -> int:
                return result

            return work

        first, second = cell(1), cell(2)
        assert first is not second
        assert app.registry.get("work") is second

    def test_two_functions_of_one_name_are_refused(self, app: Yadtq) -> None:
        @app.task(name="work")
        async def one() -> None: ...

        with pytest.raises(ConfigError, match="two tasks are named 'work'"):

            @app.task(name="work")
            async def other() -> None: ...


def unreadable() -> list[Any]:
    async def broken(x: Broken) -> None: ...
    async def syntax(x: "int[") -> None: ...  # type: ignore[valid-type]  # noqa: F722
    async def unknown(x: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
    async def twice(*args: int, **kwargs: "dict[") -> None: ...  # type: ignore[valid-type]  # noqa: F722

    return [broken, syntax, unknown, twice, 5, "text", None.__class__, object()]


@pytest.mark.parametrize("function", unreadable(), ids=lambda each: getattr(each, "__name__", repr(each)[:20]))
def test_whatever_is_wrong_is_a_config_error_in_one_line(app: Yadtq, function: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        app.task(function)
    assert "\n" not in str(caught.value)
    assert len(app.registry) == 0


@pytest.mark.parametrize("wrong", [{"retires": 3}, {"queue": 5}, {"name": 5}, {"retry_base": "1"}, {"retry_cap": -1}])
def test_wrong_options(app: Yadtq, wrong: Any) -> None:
    with pytest.raises(ConfigError):
        app.task(**wrong)(test_wrong_options)
