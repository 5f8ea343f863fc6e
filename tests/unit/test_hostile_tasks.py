"""What tasks do to their process is their own affair: it ends, its neighbours too, and the worker drains and exits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_attempt
from tests.support.hostile_app import GROUPS, app
from yadtq.execution.quarantine.ward import Died, Ward, child_command
from yadtq.runtime.clock import SystemClock
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMED = {
    ("leftovers", "in_loop"): ("asyncio task", "thread forgotten", "process ForkProcess"),
    ("leftovers", "in_thread"): ("thread forgotten", "process ForkProcess"),
    ("at-exit", "in_loop"): ("a function given to atexit",),
    ("at-exit", "in_thread"): ("a function given to atexit",),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("task", ["in_loop", "in_thread"])
@pytest.mark.parametrize("group", GROUPS)
def test_it_hurts_nobody(group: str, task: str, tmp_path: Path) -> None:
    found, log = tmp_path / "found", tmp_path / "log"
    with log.open("wb") as stderr:  # a file: what tasks leave behind would hold a pipe open
        command = [sys.executable, "-m", "tests.support.hostile_run", group, task, str(found)]
        ended = subprocess.run(command, stdout=stderr, stderr=stderr, timeout=100, check=False)
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    text = log.read_text(errors="replace")
    assert ended.returncode == 0, text[-3000:]
    assert [line["kind"] for line in lines] == [act.__name__ for act in GROUPS[group]], text[-3000:]
    assert len({line["pid"] for line in lines}) == 1, "a forked child worked as a worker"
    for line in lines:
        assert (line.get("result"), line.get("neighbours")) == (line["kind"], [1, 2, 3] * 3), (line, text[-3000:])
    assert "drained" in text, "the log goes on"
    for name in NAMED.get((group, task), ()):
        assert name in text


class TestInQuarantine:
    @pytest.fixture
    async def ward(self) -> AsyncIterator[Ward]:
        environ = {"PYTHONPATH": ":".join(filter(None, sys.path))}
        command = child_command("tests.support.hostile_app:app", "worker-1")
        made = Ward(command=command, environ=environ, size=8, clock=SystemClock())
        yield made
        await made.close()
        assert made.ended

    @pytest.mark.timeout(60)
    @pytest.mark.parametrize("task", ["in_loop", "in_thread"])
    @pytest.mark.parametrize("group", GROUPS)
    async def test_it_hurts_nobody_there_either(self, ward: Ward, group: str, task: str) -> None:
        for act in GROUPS[group]:
            kind = act.__name__
            outcome = await ward.run(make_attempt(app.registry.get(task), kind, task_id=kind))
            assert (outcome.status, json.loads(outcome.payload)) == (S.SUCCESS, kind)
            outcome = await ward.run(make_attempt(app.registry.get("neighbour"), 1, task_id=f"after-{kind}"))
            assert (outcome.status, outcome.payload) == (S.SUCCESS, b"2")

    @pytest.mark.parametrize("task", ["in_loop", "in_thread"])
    async def test_what_it_has_forked_does_not_hide_its_death(self, ward: Ward, task: str) -> None:
        with pytest.raises(Died) as death:
            await ward.run(make_attempt(app.registry.get(task), "orphan_and_death"))
        assert death.value.report.code == 3
