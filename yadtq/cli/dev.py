"""`yadtq dev`: a local Kafka and Redis, and workers if wanted, for as long as the terminal is open."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from yadtq.app import load_app
from yadtq.cli.crew import Crew, check_reload
from yadtq.cli.options import APP_VARIABLE
from yadtq.connections import forget_connections
from yadtq.demo.processes import supervisor
from yadtq.embedded import EmbeddedStack, ports_free
from yadtq.settings import WorkerSettings

__all__ = ["dev"]

_EXAMPLES = "yadtq.examples:app"
_WORKERS = 2
#: Ctrl-C, `kill`, and the terminal's end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def dev(
    *,
    app: Annotated[
        str | None, typer.Argument(metavar="[MODULE:APP]", envvar=APP_VARIABLE, help="Run workers for this app.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Default: 2 if an app is named, else none.")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start the workers again when code has changed.")] = False,
    data: Annotated[Path | None, typer.Option(help="Keep the data in this folder; default: a temporary one.")] = None,
    kafka_port: Annotated[int, typer.Option(help="Another one if it is taken.")] = 9092,
    redis_port: Annotated[int, typer.Option(help="Another one if it is taken.")] = 6379,
) -> int:
    """Start a local Kafka and Redis, and a supervisor with workers if asked for; Ctrl-C ends all of it.

    Prints the addresses as two lines for the shell. Workers without an app run the examples: addition, primes, ...
    """
    if reload:
        check_reload()
    if app is not None and not reload:
        load_app(app)  # report a wrong name before anything is started
    wanted = workers or (_WORKERS if app or reload else 0)
    return asyncio.run(_Dev(app or _EXAMPLES, wanted, data, reload=reload).run(kafka_port, redis_port))


class _Dev:
    def __init__(self, app: str, workers: int, data: Path | None, *, reload: bool) -> None:
        self._app, self._workers, self._data, self._reload = app, workers, data, reload
        self._asked = asyncio.Event()
        self._crew: Crew | None = None

    async def run(self, kafka_port: int, redis_port: int) -> int:
        """Returns the exit status: the supervisor's, if that ends by itself."""
        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            loop.add_signal_handler(signum, self._stop)
        forget_connections(os.environ)
        free = ports_free(kafka_port, redis_port)
        async with EmbeddedStack(self._data, kafka_port=free.kafka, redis_port=free.redis) as stack:
            for name, value in stack.env.items():
                print(f"export {name}={value}", flush=True)
            taken = [
                str(port) for port, got in ((kafka_port, free.kafka), (redis_port, free.redis)) if got == 0 != port
            ]
            if taken:
                print(f"yadtq: port {' and '.join(taken)} taken: other programs need the lines above", file=sys.stderr)
            if names := stack.open_servers:
                which = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"
                print(f"yadtq: {which} open to all users of this machine, but not to other machines", file=sys.stderr)
            print("yadtq: Ctrl-C ends it", file=sys.stderr)
            if not self._workers:
                await self._asked.wait()
            if self._asked.is_set():
                return 0
            env = {**_worker_environment(), **stack.env}
            self._crew = Crew(lambda: supervisor(self._app, workers=self._workers, env=env), reload=self._reload)
            return await self._crew.run()

    def _stop(self) -> None:
        self._asked.set()
        if self._crew is not None:
            self._crew.stop()


def _worker_environment() -> dict[str, str]:
    """While somebody looks on, each task is worth its lines."""
    set_already = "log_tasks" in WorkerSettings.load().model_fields_set
    return {} if set_already else {"YADTQ_WORKER_LOG_TASKS": "true"}
