"""The pytest plugin: its fixtures, in each mode of pytest-asyncio and with anyio, and its silence where nobody uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

CONFTEST = """
    import pytest
    from yadtq import Yadtq

    app = Yadtq("shop")

    @app.task(retries=1, retry_base=60)
    async def addition(x: int, y: int) -> int:
        return x + y

    @pytest.fixture
    def yadtq_app():
        return app
"""
TEST = """
    import pytest

    {mark}
    async def test_world(yadtq_world):
        handle = await yadtq_world.client.submit("addition", 1, 2)
        await yadtq_world.advance(3600)
        assert await handle.result(timeout=5) == 3
        assert [each.args for each in yadtq_world.submits] == [(1, 2)]
"""
#: The plugin itself is there by its entry point.
OFF = ("-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".")


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*OFF, *options, timeout=60)


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("", ("-o", "asyncio_mode=auto")),
        ("@pytest.mark.asyncio", ("-o", "asyncio_mode=strict")),
        ("@pytest.mark.anyio", ("-p", "no:asyncio", "-k", "not trio")),
    ],
    ids=["auto", "strict", "anyio"],
)
def test_a_world_as_a_fixture(pytester, mark, options):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST.replace("{mark}", mark))
    outcomes = run(pytester, *options).parseoutcomes()
    outcomes.pop("deselected", None)  # anyio's second backend, where trio is installed
    assert outcomes == {"passed": 1}


def test_without_an_app_it_says_what_is_missing(pytester):
    pytester.makepyfile("def test_it(yadtq_app): pass")
    run(pytester).stdout.fnmatch_lines(["*needs a fixture `yadtq_app` that returns your app*"])


def test_a_suite_that_does_not_use_it_does_not_import_yadtq(pytester):
    pytester.makepyfile("import sys\ndef test_it(): assert 'yadtq' not in sys.modules")
    run(pytester).assert_outcomes(passed=1)


def test_it_is_the_one_that_the_package_registers():
    assert 'pytest11]\nyadtq = "pytest_yadtq"' in (ROOT / "pyproject.toml").read_text()
    code = "import pytest_yadtq, sys; assert not [name for name in sys.modules if name.split('.')[0] == 'yadtq']"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_world_in_memory_needs_neither_aiokafka_nor_redis():
    code = """
import asyncio, sys
from yadtq import Yadtq
from yadtq.testing import running

app = Yadtq("shop")

@app.task
async def addition(x: int, y: int) -> int:
    return x + y

async def main() -> None:
    async with running(app):
        assert await (await addition.submit(1, 2)).result(timeout=10) == 3

asyncio.run(main())
assert not {"aiokafka", "redis"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
