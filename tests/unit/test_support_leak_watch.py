from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leak_watch import no_task_left, pending_tasks

REPOSITORY = Path(__file__).resolve().parents[2]

LEAKY_TESTS = """
import asyncio

async def test_leaves_a_task():
    asyncio.get_running_loop().leaked = asyncio.create_task(asyncio.Event().wait(), name="forgotten")

async def test_loses_an_exception():
    async def fail():
        raise ValueError("nobody saw me")
    task = asyncio.create_task(fail())
    await asyncio.wait([task])

async def test_cleans_up():
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()

async def test_means_it(asyncio_errors):
    asyncio.get_running_loop().call_exception_handler({"message": "on purpose"})
    asyncio_errors.messages.clear()

def test_without_a_loop():
    pass
"""


async def test_a_task_that_runs_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.leak_watch.GRACE_S", 0.05)
    known = pending_tasks()
    forgotten = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    with pytest.raises(AssertionError, match=r"forgotten: .*wait.* at "):
        await no_task_left(known)
    await no_task_left(known | {forgotten})
    forgotten.cancel()
    await no_task_left(known)


def test_the_fixture_fails_leaky_tests_and_only_those(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "5 passed, 2 errors" in done.stdout, done.stdout + done.stderr
    assert "forgotten" in done.stdout
    assert "nobody saw me" in done.stdout
