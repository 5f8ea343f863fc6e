"""Tasks by name: one function a name."""

from __future__ import annotations

import pytest

from yadtq import Yadtq
from yadtq.errors import ConfigError, UnknownTask


def test_by_name() -> None:
    app = Yadtq("t")
    task = app.task(name="a")(lambda: None)
    assert app.registry.get("a") is app.registry.find("a") is task
    assert (list(app.registry), len(app.registry)) == ([task], 1)


def test_an_unknown_name_is_told_what_there_is() -> None:
    app = Yadtq("t")
    app.task(name="b")(lambda: None)
    app.task(name="a")(lambda: 1)
    assert app.registry.find("c") is None
    with pytest.raises(UnknownTask, match=r"'c': this app has a, b;"):
        app.registry.get("c")


def test_two_functions_under_one_name() -> None:
    app = Yadtq("t")

    def function() -> None: ...

    app.task(name="a")(function)
    app.task(name="a")(function)  # a module that is imported twice
    with pytest.raises(ConfigError, match="another name"):
        app.task(name="a")(lambda: None)
