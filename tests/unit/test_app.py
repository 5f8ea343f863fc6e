"""An app: its name, its settings, and how a command line finds it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from yadtq import Yadtq
from yadtq.app import load_app
from yadtq.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 201, "ä", "{a}"])
def test_a_name_that_no_topic_may_have(name: str) -> None:
    with pytest.raises(ConfigError, match="app name"):
        Yadtq(name)


def test_settings_are_read_when_they_are_needed_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_KAFKA", "nonsense")
    app = Yadtq("t")
    with pytest.raises(ConfigError, match="YADTQ_KAFKA"):
        _ = app.settings
    app.configure(kafka="host:1", redis=None)
    assert (app.settings.kafka, app.settings.redis) == ("host:1", "redis://localhost:6379/0")
    app.configure(kafka="host:2")
    assert app.settings.kafka == "host:2"


class TestLoading:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "app_under_test.py").write_text(
            "from yadtq import Yadtq\napp = Yadtq('one')\nother = Yadtq('two')\nnumber = 5\n"
        )
        (tmp_path / "broken_under_test.py").write_text("import a_module_that_is_not_there\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "modules", dict(sys.modules))

    @pytest.mark.parametrize(
        ("path", "name"), [("app_under_test", "one"), ("app_under_test:app", "one"), ("app_under_test:other", "two")]
    )
    def test_from_where_it_is_started(self, path: str, name: str) -> None:
        assert load_app(path).name == name

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("not_there_at_all:app", "no module named"),
            ("app_under_test:nothing", "nothing of that name"),
            ("app_under_test:number", "found a int"),
        ],
    )
    def test_a_wrong_path_is_a_line(self, path: str, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            load_app(path)

    def test_an_error_inside_the_module_is_its_own(self) -> None:
        with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
            load_app("broken_under_test:app")
