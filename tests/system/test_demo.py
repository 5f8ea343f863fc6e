"""`yadtq demo` from end to end, as `make demo` runs it, on a few files."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.poll import eventually_blocking

if TYPE_CHECKING:
    from tests.support.stacks import Servers


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "yadtq", "demo", *words]


def processes_of(app_name: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter()
        if app_name in " ".join(_words(process)) and process.pid != psutil.Process().pid
    ]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def check_output(out: str, files: int) -> None:
    for words in (
        r"4 workers run, each with its share of 8 partitions",
        rf"{files} tasks submitted",
        r"kill -9 \d+: slot-\d",
        r"died of signal 9",
        r"starting a successor in slot-\d",
        r"is ready, [\d.]+ s after the kill",
        r"shares changed for the others +│ 0 ",
        r"Slowest modules",
        r"Most complex functions",
        rf"OK every one of {files} files was reported exactly once",
    ):
        assert re.search(words, out), f"{words!r} is missing in:\n{out}"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_on_a_stack_of_its_own(app_name):
    name = f"demo-{app_name}"
    done = subprocess.run(command("--limit", "150", "--app-name", name), capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    check_output(done.stdout, 150)
    assert processes_of(name) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_on_given_servers(stack: Servers, app_name):
    servers = ["--kafka", stack.kafka, "--redis", stack.redis]
    name = f"demo-{app_name}"
    words = command("--limit", "80", "--app-name", name, *servers)
    done = subprocess.run(words, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    check_output(done.stdout, 80)
    assert processes_of(name) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_ended_half_way_it_leaves_no_process(app_name, signum, status):
    name = f"demo-{app_name}"
    process = subprocess.Popen(command("--app-name", name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "tasks submitted" in line:
                break
        assert len(processes_of(name)) >= 5
        process.send_signal(signum)
        said = process.stdout.read()
        assert process.wait(60) == status, said
        assert "Traceback" not in said
        # After SIGKILL the supervisor and its workers are ended by their guard.
        eventually_blocking(lambda: not processes_of(name), timeout=60)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
