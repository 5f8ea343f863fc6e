"""`yadtq dev`: a local Kafka and Redis, and workers if wanted, for as long as the terminal is open."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from yadtq.app import load_app
from yadtq.connections import forget_connections
from yadtq.demo.processes import SupervisorProcess, supervisor
from yadtq.embedded import EmbeddedStack, ports_free
from yadtq.settings import WorkerSettings

__all__ = ["dev"]

_EXAMPLES = "yadtq.examples:app"
_WORKERS = 2
#: Ctrl-C, `kill`, and the terminal's end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def dev(
    app: Annotated[str | None, typer.Argument(metavar="[MODULE:APP]", help="Run workers for this app.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Default: 2 if an app is named, else none.")] = None,
    data: Annotated[Path | None, typer.Option(help="Keep the data in this folder; default: a temporary one.")] = None,
    kafka_port: Annotated[int, typer.Option(help="Another one if it is taken.")] = 9092,
    redis_port: Annotated[int, typer.Option(help="Another one if it is taken.")] = 6379,
) -> int:
    """Start a local Kafka and Redis, and a supervisor with workers if asked for; Ctrl-C ends all of it.

    Prints the addresses as two lines for the shell. Workers without an app run the examples: addition, primes, ...
    """
    if app is not None:
        load_app(app)  # report a wrong name before anything is started
    wanted = workers or (_WORKERS if app else 0)
    return asyncio.run(_Dev(app or _EXAMPLES, wanted, data).run(kafka_port, redis_port))


class _Dev:
    def __init__(self, app: str, workers: int, data: Path | None) -> None:
        self._app, self._workers, self._data = app, workers, data
        self._asked = asyncio.Event()
        self._supervisor: SupervisorProcess | None = None

    async def run(self, kafka_port: int, redis_port: int) -> int:
        """Returns the exit status: the supervisor's, if that ends by itself."""
        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            loop.add_signal_handler(signum, self._stop)
        forget_connections(os.environ)
        free = ports_free(kafka_port, redis_port)
        async with AsyncExitStack() as cleanup:
            stack = await cleanup.enter_async_context(
                EmbeddedStack(self._data, kafka_port=free.kafka, redis_port=free.redis)
            )
            for name, value in stack.env.items():
                print(f"export {name}={value}", flush=True)
            if self._workers and not self._asked.is_set():
                self._supervisor = await cleanup.enter_async_context(
                    supervisor(self._app, workers=self._workers, env={**_worker_environment(), **stack.env})
                )
            taken = [
                str(port) for port, got in ((kafka_port, free.kafka), (redis_port, free.redis)) if got == 0 != port
            ]
            if taken:
                print(f"yadtq: port {' and '.join(taken)} taken: other programs need the lines above", file=sys.stderr)
            if names := stack.open_servers:
                which = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"
                print(f"yadtq: {which} open to all users of this machine, but not to other machines", file=sys.stderr)
            print("yadtq: Ctrl-C ends it", file=sys.stderr)
            return await self._wait()

    def _stop(self) -> None:
        # The first one ends the wait below, and so the supervisor. Further ones go to the supervisor, which then stops
        # faster.
        if self._asked.is_set() and self._supervisor is not None:
            self._supervisor.signal()
        self._asked.set()

    async def _wait(self) -> int:
        asked = asyncio.create_task(self._asked.wait())
        waits = {asked}
        if self._supervisor is not None:
            waits.add(asyncio.create_task(self._supervisor.wait()))  # type: ignore[arg-type]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._asked.is_set() or self._supervisor is None:
            return 0
        return await self._supervisor.wait()


def _worker_environment() -> dict[str, str]:
    """While somebody looks on, each task is worth its lines."""
    set_already = "log_tasks" in WorkerSettings.load().model_fields_set
    return {} if set_already else {"YADTQ_WORKER_LOG_TASKS": "true"}
