"""`yadtq submit`, `status`, `result`, `workers` against a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.poll import eventually_blocking
from yadtq.cli.root import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.stacks import Servers

    Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def worker(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    servers = ["--kafka", stack.kafka, "--redis", stack.redis]
    log: Path = tmp_path_factory.mktemp("worker") / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "yadtq.worker", *servers], stderr=stderr)
    try:
        eventually_blocking(lambda: " runs, queues" in log.read_text(), timeout=40, what=log.read_text())
        yield
    finally:
        process.terminate()
        assert process.wait(40) == 0


@pytest.fixture
def yadtq(stack: Servers, worker: None, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command here; gives exit status, output, and errors."""

    def say(*words: str) -> tuple[int, str, str]:
        status = run([*words, "--kafka", stack.kafka, "--redis", stack.redis])
        out, err = capsys.readouterr()
        return status, out.strip(), err.strip()

    return say


@pytest.mark.smoke
def test_submit_and_wait(yadtq):
    assert yadtq("submit", "addition", "100", "-25", "--wait") == (0, "75", "")


def test_submit_then_ask(yadtq):
    status, task_id, err = yadtq("submit", "word_count", "to be or not to be")
    assert (status, err) == (0, "")
    status, out, _ = yadtq("result", task_id, "--timeout", "30")
    assert json.loads(out) == {"to": 2, "be": 2, "or": 1, "not": 1}
    assert yadtq("status", task_id) == (0, "SUCCESS", "")
    assert json.loads(yadtq("status", task_id, "--json")[1]) == {"id": task_id, "status": "SUCCESS"}


def test_keywords_options_and_json(yadtq, app_name):
    own_id = f"id-{app_name}"
    status, out, _ = yadtq("submit", "addition", "1", "-k", "y=2", "--id", own_id, "--wait", "--json")
    assert (status, json.loads(out)) == (0, {"id": own_id, "result": 3})
    assert yadtq("submit", "flaky", "1", "--retries", "1", "--wait") == (0, "2", "")


def test_a_named_app_validates(yadtq):
    status, out, err = yadtq("submit", "addition", "a", "b", "--app", "yadtq.examples:app")
    assert (status, out) == (1, "")
    assert err.startswith("yadtq: invalid arguments for task 'addition'")
    status, _, err = yadtq("submit", "nothing", "--app", "yadtq.examples:app")
    assert status == 2
    assert "unknown task 'nothing'" in err


def test_what_fails(yadtq):
    status, out, err = yadtq("submit", "failing", "--wait")
    assert (status, out) == (1, "")
    assert "RuntimeError: on purpose" in err
    status, _, err = yadtq("result", yadtq("submit", "slow", "1")[1], "--timeout", "0.1")
    assert status == 1
    assert "has not ended within 0.1 s" in err
    status, _, err = yadtq("status", "never-submitted")
    assert status == 1
    assert err.startswith("yadtq: nothing is known")


def test_workers(yadtq, app_name):
    out = ""

    def one_runs() -> bool:
        nonlocal out
        status, out, _ = yadtq("workers")
        return status == 0 and "running" in out

    eventually_blocking(one_runs)
    assert os.uname().nodename[:4] in out
    assert yadtq("workers", "--app", app_name) == (0, "no live workers", "")


@pytest.mark.smoke
def test_check_looks_at_everything_and_a_task_goes_round(yadtq):
    status, out, err = yadtq("check", "--json")
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert said["ok"] is True
    states = {line["what"]: line["state"] for line in said["checks"]}
    assert {
        "settings",
        "kafka",
        "redis",
        "redis version",
        "clock of redis",
        "clock of kafka",
        "workers",
    } <= states.keys()
    assert states["round trip"] == "ok"
    text = next(line["text"] for line in said["checks"] if line["what"] == "round trip")
    assert "answered in" in text
    assert "failed" not in states.values()


def test_check_of_an_app_that_nobody_runs(yadtq, app_name):
    status, out, _ = yadtq("check", "--app", app_name)
    assert status == 0
    assert "warning  workers: none is running" in out
    assert yadtq("check", "--app", app_name)[1].count("is not there yet") == out.count("is not there yet") > 0, (
        "read-only"
    )
