"""The detector of blocking calls sees those of our code, and no others."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import blocking
from tests.support.blocking import blocking_calls
from yadtq.embedded.datadir import DataDir
from yadtq.runtime.microbatch import MicroBatch
from yadtq.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

if TYPE_CHECKING:
    from collections.abc import Sequence


async def sleepy(items: Sequence[int]) -> list[None]:
    time.sleep(0.001)  # noqa: ASYNC251 - what is to be found
    return [None] * len(items)


def test_a_call_under_our_code_is_told_with_its_place_though_the_error_is_swallowed() -> None:
    async def work() -> None:
        batch = MicroBatch(sleepy, timeout_s=1)
        with pytest.raises(Exception, match=r"time\.sleep"):
            await batch.run(1)

    with blocking_calls() as calls:
        asyncio.run(work())
    (call,) = calls
    assert call.startswith("time.sleep by ")
    assert "runtime/microbatch.py" in call


def test_without_a_loop_or_from_the_test_itself_all_may_block(tmp_path: Path) -> None:
    async def work() -> None:
        await sleepy([])
        (tmp_path / "file").write_text("x")
        folder = DataDir(tmp_path / "data")
        folder.open()
        folder.close()

    with blocking_calls() as calls:
        time.sleep(0.001)
        Settings.load()
        asyncio.run(work())
    assert calls == []


def test_every_exception_has_its_reason_and_exists() -> None:
    for (file, function), reason in blocking.ALLOWED.items():
        path = next(path for folder in (*sys.path, str(ROOT)) if (path := Path(folder) / file).exists())
        assert f"def {function}(" in path.read_text()
        assert reason
