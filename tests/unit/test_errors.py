"""The tree that the docstring draws is the tree there is, and every message is one line that survives a pickle."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from yadtq import errors
from yadtq.errors import TaskFailed, YadtqError

CLASSES: dict[str, type[YadtqError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, YadtqError) and value.__module__ == errors.__name__
}
EXAMPLES: dict[str, YadtqError] = {
    "UnknownTask": errors.UnknownTask("ad", ["addition", "sleep"]),
    "InvalidArguments": errors.InvalidArguments("addition", "missing y"),
    "PayloadTooLarge": errors.PayloadTooLarge("addition", 2_000_000, 1_000_000),
    "SubmitUncertain": errors.SubmitUncertain(["a", "b", "c"], 15.0, "request timed out"),
    "SubmitRefused": errors.SubmitRefused(["a", "b"], "the clock is ahead"),
    "BrokerRefused": errors.BrokerRefused("too large", {3: "too large"}, {3}),
    "TaskFailed": TaskFailed("a", "ValueError", "no", "Traceback ...\n  line", 3),
    "TaskNotFound": errors.TaskNotFound("a"),
    "ResultLost": errors.ResultLost("a"),
    "ResultUnreadable": errors.ResultUnreadable("a", "a compressed value is damaged"),
    "StoreRefused": errors.StoreRefused("shop", [("PUBLISH", "NOPERM no permissions to access a channel")]),
    "LifespanFailed": errors.LifespanFailed("shop", "OSError: no such host", opened=False),
    "ServiceFailed": errors.ServiceFailed("waiters", "KeyError: 'a'"),
    "Retry": errors.Retry("busy", delay=2.5),
}


def drawn_tree() -> dict[str, str]:
    """Class -> parent, as the docstring draws them: four columns a level."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        if found := re.match(r"^( *)((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)(?: {2,}\S|$)", line):
            name = found[3]
            depth = (line.index(name) - 4) // 4
            path[depth:] = [name]
            if depth:
                parents[name] = path[depth - 1]
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = drawn_tree()
    assert len(drawn) > 12
    for name, parent in drawn.items():
        assert CLASSES[name].__bases__ == (CLASSES[parent],), name


def test_every_error_is_drawn_or_named() -> None:
    prose = inspect.getdoc(errors) or ""
    assert not [name for name in CLASSES if not re.search(rf"\b{name}\b", prose)]


def test_all_is_sorted_and_complete() -> None:
    assert errors.__all__ == sorted(CLASSES)
    public = [
        value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__
    ]
    assert all(issubclass(value, YadtqError) for value in public)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_errors_survive_a_pickle(name: str) -> None:
    error = EXAMPLES.get(name) or CLASSES[name]("what happened: what to do")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_messages_are_one_line(name: str) -> None:
    error = EXAMPLES.get(name) or CLASSES[name]("what happened: what to do")
    assert type(error) is CLASSES[name]
    assert str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_says_what_it_means(name: str) -> None:
    assert CLASSES[name].__doc__


def test_messages_say_what_to_do() -> None:
    assert "addition, sleep" in str(EXAMPLES["UnknownTask"])
    assert "none" in str(errors.UnknownTask("x", []))
    assert "a and 2 more" in str(EXAMPLES["SubmitUncertain"])
    assert "more" not in str(errors.SubmitUncertain(["a"], 1, "x"))


def test_a_failure_with_a_message_of_many_lines_is_still_one_line() -> None:
    error = TaskFailed("a", "ValidationError", "2 errors\n  x: bad\n  y: worse", "", 1)
    assert "\n" not in str(error)
    assert error.message == "2 errors\n  x: bad\n  y: worse"
