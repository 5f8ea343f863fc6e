"""One run of the demo: start everything, submit, kill a worker half-way, wait for all results, check them."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.connections import forget_connections
from yadtq.demo.check import problems
from yadtq.demo.display import show
from yadtq.demo.processes import supervisor
from yadtq.demo.progress import Kill, Progress, label
from yadtq.demo.sources import digests, standard_library
from yadtq.demo.summary import summarise
from yadtq.demo.tasks import PREFIX, make_app
from yadtq.embedded import EmbeddedStack
from yadtq.errors import ConfigError, ResultError, YadtqError
from yadtq.shown import shown, shown_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from rich.console import Console

    from yadtq.client.client import Client
    from yadtq.demo.tasks import Report
    from yadtq.handle import TaskHandle

__all__ = ["Options", "run"]

_CREW_S = 90.0
_POLL_S = 0.05
_RUN_S = 600.0
_SUCCESSOR_S = 30.0
_PARTITIONS_EACH = 2


@dataclass(frozen=True)
class Options:
    """kafka, redis: servers to use; None for both starts an embedded stack. limit: so many files, not all."""

    workers: int = 4
    concurrency: int = 4
    limit: int | None = None
    kafka: str | None = None
    redis: str | None = None
    app_name: str | None = None
    keep: bool = False


async def run(options: Options, console: Console) -> int:
    """Returns the exit status: 0 if every file was reported exactly once. Raises `YadtqError` if it can't be done."""
    if options.workers < 2:
        raise ConfigError("the demo needs at least 2 workers: one is killed")
    if (options.kafka is None) != (options.redis is None):
        raise ConfigError("give both --kafka and --redis, or neither for a stack of its own")
    name = options.app_name or f"{PREFIX}-{secrets.token_hex(3)}"
    if not name.startswith(PREFIX):
        raise ConfigError(
            f"the demo's app name must begin with {PREFIX!r}, so that it can't affect other apps: {name!r}"
        )
    async with AsyncExitStack() as cleanup:
        servers = await _servers(options, cleanup)
        files = await asyncio.to_thread(standard_library, options.limit)
        return await Demo(options, console, name=name, servers=servers, files=files).run()


async def _servers(options: Options, cleanup: AsyncExitStack) -> dict[str, str]:
    """As settings."""
    if options.kafka is not None and options.redis is not None:
        return {"kafka": options.kafka, "redis": options.redis}
    forget_connections(os.environ)
    return (await cleanup.enter_async_context(EmbeddedStack())).settings


class Demo:
    """`await run()` once."""

    def __init__(
        self, options: Options, console: Console, *, name: str, servers: dict[str, str], files: list[str]
    ) -> None:
        self._options, self._name, self._console = options, name, console
        self._servers = servers
        self._env = {f"YADTQ_{setting.upper()}": value for setting, value in servers.items()}
        self._files = files
        self._progress = Progress(len(self._files))
        self._handles: list[TaskHandle[Report]] = []
        self._app = make_app(name, **servers)

    async def run(self) -> int:
        """Returns the exit status."""
        where = (
            f"app {self._name}, Kafka {shown(self._servers['kafka'])}, Redis {shown_address(self._servers['redis'])}"
        )
        self._console.print(where, highlight=False, markup=False)
        async with AsyncExitStack() as cleanup:
            partitions = _PARTITIONS_EACH * self._options.workers
            client = await cleanup.enter_async_context(self._app.client(num_partitions=partitions))
            await cleanup.enter_async_context(
                supervisor(
                    f"{make_app.__module__}:{self._name}",
                    workers=self._options.workers,
                    concurrency=self._options.concurrency,
                    env=self._env,
                    hear=self._progress,
                )
            )
            found = await self._work(client, partitions)
            summarise(self._progress, found, self._console)
            if self._options.keep:
                await self._stay()
            return 1 if found else 0

    async def _work(self, client: Client, partitions: int) -> list[str]:
        done = asyncio.Event()
        async with _background(show(self._progress, self._console, done), stop=done), _background(self._watch(client)):
            await self._assembled(partitions)
            expected = await asyncio.to_thread(digests, self._files)
            await self._submit(client)
            found = await self._collect()
            self._progress.ended = time.monotonic()
            again = [await handle.result(timeout=10) for handle in self._handles] if not found else []
            found += await self._succeeded()
            reports = self._progress.reports
            return found + problems(expected, reports, again or reports, self._progress.failures)

    async def _watch(self, client: Client) -> None:
        async for crew in client.watch_workers():
            self._progress.see(crew)

    async def _assembled(self, partitions: int) -> None:
        """All workers run and all partitions are theirs: a rebalance seen later is then not one of the start."""
        progress, workers = self._progress, self._options.workers
        progress.tell(f"supervisor: starting {workers} workers")

        if not await _until(lambda: progress.balanced(workers, partitions), _CREW_S):
            tail = "\n".join(shown(line) for line in list(progress.log)[-20:])
            raise YadtqError(f"no {workers} workers within {_CREW_S:g} s; their log ends with:\n{tail}")
        progress.tell(f"{workers} workers run, each with its share of {partitions} partitions")

    async def _submit(self, client: Client) -> None:
        progress = self._progress
        progress.started = time.monotonic()
        task = next(iter(self._app.registry))
        self._handles = await client.submit_many(task, [(path,) for path in self._files])
        progress.tell(f"{len(self._handles)} tasks submitted in {progress.elapsed_s:.2f} s")

    async def _collect(self) -> list[str]:
        try:
            async with asyncio.timeout(_RUN_S), asyncio.TaskGroup() as group:
                for handle, path in zip(self._handles, self._files, strict=True):
                    group.create_task(self._wait(handle, path))
        except TimeoutError:
            return [f"{self._progress.total - self._progress.done} tasks have not ended within {_RUN_S:g} s"]
        return []

    async def _wait(self, handle: TaskHandle[Report], path: str) -> None:
        progress = self._progress
        try:
            progress.take(await handle.result())
        except ResultError as error:
            progress.fail(f"{path}: {error}")
        if progress.kill is None and progress.done >= progress.total // 2:
            self._kill()

    def _kill(self) -> None:
        progress = self._progress
        if (victim := progress.victim()) is None:
            return
        worker, pid = victim
        slot = worker.rpartition(":")[0]
        progress.kill = Kill(worker, slot, pid, time.time(), progress.done)
        os.kill(pid, signal.SIGKILL)
        progress.tell(f"kill -9 {pid}: {label(worker)}, after {progress.done} tasks")

    async def _succeeded(self) -> list[str]:
        """The end may come before the successor does, if the killed worker had nothing left to do."""
        progress = self._progress
        if progress.kill is None:
            return ["no worker was killed: none was seen at half of the tasks"]
        if not await _until(lambda: progress.successor is not None, _SUCCESSOR_S):
            return [f"no successor within {_SUCCESSOR_S:g} s"]
        return []

    async def _stay(self) -> None:
        console = self._console
        console.print("\nEverything stays up until Ctrl-C. In another terminal:", highlight=False)
        # Given addresses may contain a password of a real server, unlike those of our own stack.
        ours = self._options.redis is None
        for line in (
            *(["export " + " ".join(f"{name}={value}" for name, value in self._env.items())] if ours else []),
            f"yadtq workers --watch --app {self._name}",
            f"yadtq result {self._handles[0].id} --app {self._name}",
            f"yadtq submit analyse {self._files[0]} --wait --app {self._name}",
        ):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
        await asyncio.Event().wait()


async def _until(check: Callable[[], bool], seconds: float) -> bool:
    """Polls, because both events and heartbeats change what it waits for; the short delay does not matter in a display."""
    with anyio.move_on_after(seconds):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
    return check()


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None], stop: asyncio.Event | None = None) -> AsyncIterator[None]:
    """For as long as the block runs. stop: asks it to end by itself; otherwise it is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        if stop is not None:
            stop.set()
        else:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
