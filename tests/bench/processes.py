"""The processes under measurement: workers, and children that run one client or one floor each."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.machine import cpu_s, rss_mb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.stacks import Stack

REPOSITORY = Path(__file__).resolve().parents[2]
_START_S = 30.0


def new_app() -> str:
    """A name, and with it topics, a group and keys that no run before has touched."""
    return f"bench-{secrets.token_hex(4)}"


def child(stack: Stack, what: str, app: str, **parameters: Any) -> Any:
    """Run one function of `tests.bench.child` in a process of its own, for a memory and a loop that nothing else uses."""
    words = {"kafka": stack.kafka, "redis": stack.redis, "app": app, **parameters}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.child", what, json.dumps(words)],
        cwd=REPOSITORY,
        env={**os.environ, "BENCH_APP": app},
        stdout=subprocess.PIPE,
        check=False,
        timeout=900,
    )
    if done.returncode:
        raise RuntimeError(f"{what} of {app} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


class Worker:
    """A real `python -m yadtq.worker` process."""

    def __init__(
        self,
        stack: Stack,
        app: str,
        folder: Path,
        concurrency: int,
        profile: Path | None = None,
        gate: Path | None = None,
    ) -> None:
        self._stamp = folder / f"stamp-{secrets.token_hex(4)}"
        self.log = folder / f"{self._stamp.name}.log"
        python = [sys.executable, *(["-m", "cProfile", "-o", str(profile)] if profile else [])]
        level = os.environ.get("BENCH_LOG", "WARNING")
        words = [
            *("--concurrency", str(concurrency)),
            *("--kafka", stack.kafka),
            *("--redis", stack.redis),
            "--log-level",
            level,
        ]
        env = {**os.environ, "BENCH_APP": app, "BENCH_STAMP": str(self._stamp)}
        if gate is not None:
            env["BENCH_GATE"] = str(gate)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *python,
                    "-m",
                    "yadtq.worker",
                    "tests.bench.app:app",
                    *words,
                    "--log-level",
                    os.environ.get("BENCH_LOG", "WARNING"),
                ],
                cwd=REPOSITORY,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def started_at(self) -> float | None:
        """Monotonic seconds of its first task."""
        try:
            return int(self._stamp.read_text()) / 1e9
        except FileNotFoundError:
            if self._process.poll() is not None:
                raise RuntimeError(f"the worker ended:\n{self.log.read_text()[-3000:]}") from None
            return None

    def cpu_s(self) -> float:
        return cpu_s(self._process.pid)

    def rss_mb(self) -> float:
        return rss_mb(self._process.pid)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped where it is, for less than a lease."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Let it drain; raises if it can't."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError("the worker did not drain") from None
        text = self.log.read_text()
        if status or " ERROR " in text or "BENCH_LOG" in os.environ:
            print(f"worker ended with {status}:\n{text[-2000:]}", file=sys.stderr)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def workers(
    stack: Stack,
    app: str,
    folder: Path,
    *,
    count: int = 1,
    concurrency: int = 100,
    profile: Path | None = None,
    gate: Path | None = None,
) -> Iterator[list[Worker]]:
    """Started on entry, drained on exit. gate: no task ends before this file exists."""
    started = [Worker(stack, app, folder, concurrency, profile, gate) for _ in range(count)]
    try:
        yield started
        for worker in started:
            worker.stop()
    finally:
        for worker in started:
            worker.kill()


def first_tasks(started: list[Worker]) -> list[float]:
    """Wait until every worker has a task; monotonic seconds of the first of each."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        stamps = [stamp for worker in started if (stamp := worker.started_at) is not None]
        if len(stamps) == len(started):
            return stamps
        time.sleep(0.002)
    raise RuntimeError(f"not every worker had a task within {_START_S:g} s:\n{started[0].log.read_text()[-3000:]}")
