"""`yadtq dev`: starts all, says where, and leaves no process, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.poll import eventually_blocking
from yadtq.sync import YADTQClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., "Dev"]


class Dev:
    """A running `yadtq dev` and all processes below it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log
        self.env = dict(self._export() for _ in range(5))  # addresses, and how to log in to Kafka

    def _export(self) -> tuple[str, str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.startswith("export YADTQ_"), f"{line!r}\n{self.log.read_text()}"
        name, _, value = line.removeprefix("export ").partition("=")
        return name, value

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def client(self, app: str = "default") -> YADTQClient:
        settings: dict[str, Any] = {name.removeprefix("YADTQ_").lower(): value for name, value in self.env.items()}
        return YADTQClient(app=app, **settings)

    def ends(self, signum: signal.Signals, family: list[psutil.Process], timeout: float = 60) -> int:
        self.process.send_signal(signum)
        status = self.process.wait(timeout)
        eventually_blocking(lambda: not any(map(is_alive, family)), timeout=timeout, what="its processes to end")
        return status


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Start]:
    made: list[tuple[subprocess.Popen[str], IO[str]]] = []
    log = tmp_path / "dev.log"

    def start(*words: str, cwd: Path | None = None) -> Dev:
        stderr = log.open("w")
        command = [sys.executable, "-m", "yadtq", "dev", "--kafka-port", "0", "--redis-port", "0", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=cwd)
        made.append((process, stderr))
        return Dev(process, log)

    yield start
    for process, stderr in made:
        process.kill()
        process.wait()
        stderr.close()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_servers_alone(dev: Start, signum):
    running = dev()
    with running.client() as client:
        task_id = client.submit_task("addition", [1, 2])
        assert client.get_status(task_id).value == "QUEUED"
    family = running.family()
    assert len(family) == 4  # each server with its guard
    assert running.ends(signum, family) == 0
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "open to all users" not in log


def test_with_workers(dev: Start):
    running = dev("yadtq.examples:app", "--workers", "2")
    with running.client() as client:
        assert client.get_result(client.submit_task("addition", [100, 25]), timeout=30) == 125
        eventually_blocking(lambda: len(client.workers()) == 2, timeout=30)
    family = running.family()
    assert len(family) == 4 + 2 + 2  # servers; supervisor with its guard; workers
    assert running.ends(signal.SIGINT, family) == 0
    log = running.log.read_text()
    assert log.count("event=stopped") == 2
    assert "Traceback" not in log


@pytest.mark.slow
def test_killed(dev: Start):
    running = dev("--workers", "1")
    with running.client() as client:
        client.get_result(client.submit_task("addition", [1, 1]), timeout=30)
    family = running.family()
    assert len(family) == 4 + 2 + 1
    assert running.ends(signal.SIGKILL, family) == -signal.SIGKILL


def test_data_are_kept(dev: Start, tmp_path: Path):
    data = str(tmp_path / "data")
    running = dev("--data", data)
    with running.client() as client:
        task_id = client.submit_task("addition", [1, 2])
    assert running.ends(signal.SIGINT, running.family()) == 0
    running = dev("--data", data, "--workers", "1")
    with running.client() as client:
        assert client.get_result(task_id, timeout=30) == 3
    assert running.ends(signal.SIGINT, running.family()) == 0


def test_workers_that_refuse_their_settings_end_it(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "yadtq", "dev", "--workers", "1", "--kafka-port", "0", "--redis-port", "0"],
        env={**os.environ, "YADTQ_WORKER_CONCURRENCY": "none"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "yadtq: concurrency (YADTQ_WORKER_CONCURRENCY)" in done.stderr


CODE = """
from yadtq import Yadtq

app = Yadtq("reloaded")


@app.task
async def answer() -> int:
    return {answer}
"""


def test_code_that_changes_is_loaded_again(dev: Start, tmp_path: Path) -> None:
    """Also after code that can't be loaded, which ends the workers but not `yadtq dev`."""
    source = tmp_path / "changing.py"
    source.write_text(CODE.format(answer=1))
    running = dev("changing:app", "--workers", "1", "--reload", cwd=tmp_path)
    with running.client("reloaded") as client:

        def answers(wanted: int) -> bool:
            return bool(client.get_result(client.submit_task("answer", []), timeout=10) == wanted)

        eventually_blocking(lambda: answers(1), timeout=60)
        source.write_text("1 +\n")
        eventually_blocking(lambda: "start again after a change" in running.log.read_text(), timeout=60)
        source.write_text(CODE.format(answer=2))
        eventually_blocking(lambda: answers(2), timeout=60)
    assert running.ends(signal.SIGINT, running.family()) == 0
