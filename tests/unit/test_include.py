"""Several modules: loaded with the app, found by name, and one line for each way in which that can go wrong."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.assembled import Assembled, assembled
from yadtq import Yadtq
from yadtq.app import load_app
from yadtq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """
from yadtq import Yadtq
app = Yadtq("shop", include=[{include}])
"""
TASK = """
from {package}.app import app
@app.task{options}
async def {name}(): ...
"""

Project = "Callable[..., str]"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes a package of files, and gives its name."""
    name = "include_" + "".join(char for char in request.node.name if char.isalnum())[-40:]

    def make(files: dict[str, str]) -> str:
        for path, text in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("{package}", name))
        for folder in [tmp_path / name, *(each for each in (tmp_path / name).rglob("*") if each.is_dir())]:
            (folder / "__init__.py").touch()
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    yield make
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]


def task(name: str, options: str = "") -> str:
    return TASK.replace("{options}", options).replace("{name}", name)


def names(app: Yadtq) -> list[str]:
    return sorted(each.name for each in app.registry)


class TestInclude:
    def test_is_loaded_when_it_is_needed_and_not_before(self, project: Any) -> None:
        package = project(
            {
                "app.py": APP.format(include='"{package}.mail", "{package}.bills"'),
                "mail.py": task("send"),
                "bills.py": task("charge", '(queue="money")'),
            }
        )
        app = load_app(f"{package}.app")
        assert names(app) == ["charge", "send"]
        assert app.queues == ("default", "money")

    async def test_a_client_that_imports_only_the_app_knows_all(self, project: Any) -> None:
        package = project({"app.py": APP.format(include='"{package}.mail"'), "mail.py": task("send")})
        app: Yadtq = __import__(f"{package}.app", fromlist=["app"]).app
        assert "tasks=[]" in repr(app)
        outside = Assembled(Yadtq("shop")).worker.outside
        async with app.client(outside=outside) as client:
            await client.submit("send")
            with pytest.raises(ConfigError, match="this app has send"):
                await client.submit("sent")

    def test_a_package_stands_for_all_modules_in_it(self, project: Any) -> None:
        package = project(
            {
                "app.py": APP.format(include='"{package}.tasks"'),
                "tasks/mail.py": task("send"),
                "tasks/deep/er.py": task("dig"),
                "tasks/__main__.py": "raise SystemExit",
                "tasks/tests/test_mail.py": "import pytest_is_not_there",
                "tasks/conftest.py": "import pytest_is_not_there",
            }
        )
        assert names(load_app(f"{package}.app:app")) == ["dig", "send"]

    def test_the_app_may_be_in_the_package_that_it_includes(self, project: Any) -> None:
        package = project(
            {"tasks/mail.py": task("send").replace(".app import", ".tasks import"), "tasks/__init__.py": ""}
        )
        root = __import__(package).__path__[0]
        with open(f"{root}/tasks/__init__.py", "w", encoding="utf-8") as file:
            file.write(APP.format(include=f'"{package}.tasks"'))
        assert names(load_app(f"{package}.tasks:app")) == ["send"]

    def test_threads_wait_for_the_one_that_loads(self, project: Any) -> None:
        package = project(
            {
                "app.py": APP.format(include='"{package}.slow"'),
                "slow.py": "import time\ntime.sleep(0.2)\n" + task("send"),
            }
        )
        app: Yadtq = __import__(f"{package}.app", fromlist=["app"]).app
        found: list[list[str]] = []
        threads = [threading.Thread(target=lambda: found.append(names(app))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [["send"]] * 4

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({}, "no module named 'X.mail'"),
            (
                {"mail.py": "import not_there_at_all"},
                "'X.mail' can't be imported: ModuleNotFoundError.*mail.py, line 1",
            ),
            ({"mail.py": "\n\n1 / 0"}, r"ZeroDivisionError: division by zero \(.*mail.py, line 3\)$"),
            ({"mail.py": "def"}, "SyntaxError: invalid syntax"),
            ({"mail.py": "from {package}.mail import nothing"}, "a circular import: .* `include` are enough"),
            (
                {"mail.py": task("x") + "\n@app.task(retries='many')\nasync def y(): ..."},
                "X.mail: task 'y': retries must",
            ),
            ({"mail.py": "from yadtq import Yadtq\napp = Yadtq('shop')"}, "another object for app 'shop'"),
        ],
    )
    def test_a_module_that_is_broken_is_a_line(self, project: Any, files: dict[str, str], words: str) -> None:
        package = project({"app.py": APP.format(include='"{package}.mail"'), **files})
        for _ in range(2):
            with pytest.raises(ConfigError, match=words.replace("X", package)) as raised:
                load_app(f"{package}.app")
            assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("include", [["mail.py!"], [""], [5], [".mail"], ["a/b"], ["a..b"]])
    def test_what_is_no_name_is_refused_at_once(self, include: Any) -> None:
        with pytest.raises(ConfigError, match="names of modules"):
            Yadtq("shop", include=include)

    def test_one_name_is_a_list_of_one(self) -> None:
        assert len(Yadtq("default", include="yadtq.examples")._include) == 1


class TestDiscovery:
    @pytest.mark.parametrize("where", ["__init__.py", "app.py", "tasks.py"])
    def test_a_package(self, project: Any, where: str) -> None:
        assert load_app(project({where: APP.format(include="")})).name == "shop"

    def test_an_app_of_another_name(self, project: Any) -> None:
        assert load_app(project({"app.py": APP.format(include="").replace("app =", "queue =")})).name == "shop"

    def test_several_are_named(self, project: Any) -> None:
        package = project({"app.py": "from yadtq import Yadtq\na = Yadtq('a')\nb = Yadtq('b')"})
        with pytest.raises(ConfigError, match=r"several apps: name one, like .*:a$"):
            load_app(f"{package}.app")
        assert load_app(f"{package}.app:b").name == "b"

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("", "no name of a module"),
            (":app", "no name of a module"),
            (".tasks", "no name of a module"),
            ("tasks.py", "did you mean tasks"),
            ("json", "'json': expected a Yadtq app, found nothing"),
        ],
    )
    def test_a_wrong_path_is_a_line(self, path: str, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            load_app(path)


class TestStart:
    async def start(self, app: Yadtq, caplog: pytest.LogCaptureFixture, **options: Any) -> tuple[str, ...]:
        caplog.set_level(logging.INFO)
        async with assembled(app, **options) as made:
            return made.worker._given.identity.queues

    async def test_it_says_what_it_is(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Yadtq("t", kafka="h:1", redis="redis://:secret@h:2/0")
        app.task(name="b", queue="mail")(_work)
        app.task(name="a")(_other)
        assert await self.start(app, caplog, concurrency=7) == ("default", "mail")
        for words in ("app t, 2 tasks: a, b", "kafka h:1", "concurrency 7", "runs, queues default, mail"):
            assert words in caplog.text
        assert "secret" not in caplog.text
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    async def test_no_tasks_is_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        await self.start(Yadtq("t"), caplog)
        assert "WARNING" in caplog.text
        assert "has no tasks" in caplog.text

    async def test_a_queue_that_it_was_told_to_leave_is_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Yadtq("t")
        app.task(name="a", queue="mail")(_work)
        assert await self.start(app, caplog, queues="default") == ("default",)
        assert "does not consume queue mail, of tasks a" in caplog.text


async def _work() -> None: ...


async def _other() -> None: ...
