"""One peer through the scenarios."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.bench.machine import cpu_s
from tests.bench.peers import environments
from tests.bench.peers.apps import recorder
from tests.bench.scenarios.latency import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.peers.catalog import Peer
    from tests.bench.scenarios import Plan

_HERE = Path(__file__).parent
_SETTLE_S = 3.0
_STALL_S = 25.0
_TIMEOUT_S = 120.0
_LAST = 2_000
_CHUNK = 500


class Bench:
    def __init__(self, plan: Plan, peer: Peer) -> None:
        self._plan = plan
        self._peer = peer
        self._bin = environments.bin_dir(peer.environment)
        self._values: dict[str, list[float]] = {}

    def measure(self, letters: str) -> dict[str, list[float]]:
        steps = {
            "A": self._drain,
            "B": self._submit,
            "C": self._round_trips,
            "D": self._sleepers,
            "E": self._idle,
        }
        for letter in letters:
            for _ in range(self._plan.repeats):
                if letter in steps:
                    self._plan.fresh()
                    steps[letter](self._fresh_env())
        if "F" not in letters:
            self._values.pop("bytes", None)
        return self._values

    def _add(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)

    def _fresh_env(self) -> dict[str, str]:
        """For worker and client: addresses, a new topic and a new recorder."""
        record = self._plan.folder / f"record-{secrets.token_hex(4)}"
        recorder.create(str(record))
        return {
            **os.environ,
            **self._peer.env,
            "BENCH_REDIS": self._plan.stack.redis,
            "BENCH_KAFKA": self._plan.stack.kafka,
            "BENCH_TOPIC": f"peer-{secrets.token_hex(4)}",
            "BENCH_RECORD": str(record),
            "PYTHONPATH": f"{_HERE}:{_HERE / 'apps'}",
            "PYTHONWARNINGS": "ignore",
        }

    def _client(self, env: dict[str, str], what: str, **words: Any) -> Any:
        done = subprocess.run(
            [str(self._bin / "python"), str(_HERE / "client.py"), self._peer.system, what, json.dumps(words)],
            env=env,
            cwd=_HERE / "apps",
            capture_output=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stderr.decode()[-800:]}")
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def _worker(self, env: dict[str, str]) -> Iterator[_Tree]:
        log = self._plan.folder / "peer.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._peer.argv(self._bin, _HERE / "apps", self._plan.stack.redis),
                env=env,
                cwd=_HERE / "apps",
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        tree = _Tree(process)
        try:
            yield tree
        except (RuntimeError, TimeoutError) as error:
            raise RuntimeError(f"{error}\n{log.read_text(errors='replace')[-800:]}") from error
        finally:
            tree.end()

    def _drain(self, env: dict[str, str]) -> None:
        n = self._plan.scaled(self._peer.n)
        with self._plan.stack.store() as store:
            before = int(store.info("memory")["used_memory"])
        wall, cpu = self._run_tasks(env, n, "noop")
        self._add("rate", n / wall)
        self._add("cpu_us", cpu / n * 1e6)
        time.sleep(0.5)
        with self._plan.stack.store() as store:
            self._add("bytes", (int(store.info("memory")["used_memory"]) - before) / n)

    def _sleepers(self, env: dict[str, str]) -> None:
        self._add("sleep_s", self._run_tasks(env, 2_000, "sleep50")[0])

    def _run_tasks(self, env: dict[str, str], n: int, task: str) -> tuple[float, float]:
        """Wall and CPU seconds."""
        filled = self._client(env, "bulk", n=n, task=task)
        keys = filled["keys"]
        executions = recorder.Reader(env["BENCH_RECORD"])
        with self._plan.stack.store() as store, self._worker(env) as tree:
            cpu: float | None = None
            seen, started = 0, time.monotonic()
            changed = started
            # Not before nearly all were executed: looking is work for Redis. Not all: SAQ drops a few (see `_results`).
            while seen < n - n // 1000 or _results(store, filled["kind"], keys[-_LAST:]) < len(keys[-_LAST:]):
                count, _ = executions.read()
                if count and cpu is None:
                    cpu = tree.cpu_s()
                if count != seen:
                    seen, changed = count, time.monotonic()
                elif time.monotonic() - changed > _STALL_S:
                    raise TimeoutError(f"stalled: {seen} of {n} executed")
                if time.monotonic() - started > _TIMEOUT_S:
                    raise TimeoutError(f"{seen} of {n} executed in {_TIMEOUT_S:g} s")
                time.sleep(0.005)
            end = time.monotonic()
            spent = tree.cpu_s() - (cpu or 0.0)
            while (stored := _results(store, filled["kind"], keys)) < n:
                if time.monotonic() - started > _TIMEOUT_S:
                    raise TimeoutError(f"{stored} of {n} results stored in {_TIMEOUT_S:g} s")
                time.sleep(0.05)
                end, spent = time.monotonic(), tree.cpu_s() - (cpu or 0.0)
        first = executions.read()[1]
        assert first is not None
        return end - first, spent

    def _submit(self, env: dict[str, str]) -> None:
        n = self._plan.scaled(5_000)
        self._add("submit_each", self._client(env, "each", n=n, warm=True)["rate"])
        self._plan.fresh()
        bulk = self._client(self._fresh_env(), "bulk", n=n, warm=True)
        if bulk["bulk"]:
            self._add("submit_bulk", bulk["rate"])

    def _round_trips(self, env: dict[str, str]) -> None:
        with self._worker(env):
            time.sleep(_SETTLE_S)
            options = dict(self._peer.options)
            times = self._client(env, "round_trips", n=self._peer.round_trips, options=options)["times"]
        self._add("p50_ms", quantile(times, 0.5) * 1000)
        self._add("p99_ms", quantile(times, 0.99) * 1000)

    def _idle(self, env: dict[str, str]) -> None:
        with self._worker(env) as tree:
            time.sleep(_SETTLE_S + 1)
            self._add("rss_mb", tree.rss_mb())


class _Tree:
    """A worker's process with its children."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def _all(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []

    def cpu_s(self) -> float:
        return sum(cpu_s(process.pid) for process in self._all() if process.is_running())

    def rss_mb(self) -> float:
        return sum(process.memory_info().rss for process in self._all()) / 2**20

    def end(self) -> None:
        everyone = self._all()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(everyone, timeout=6)
        for process in alive:
            process.kill()
        self._process.wait()


def _results(store: Any, kind: str, keys: list[str]) -> int:
    """How many of the results are stored."""
    found = 0
    for at in range(0, len(keys), _CHUNK):
        part = keys[at : at + _CHUNK]
        if kind == "exists":
            found += int(store.exists(*part))
        elif kind == "complete":
            # "swept": SAQ took the job for stuck while it was starting, and aborts it. It is counted, it won't come back.
            found += sum(b'"complete"' in (value or b"") or b'"swept"' in (value or b"") for value in store.mget(part))
        else:
            found += sum(value is not None for value in store.hmget(kind.removeprefix("hash:"), part))
    return found
