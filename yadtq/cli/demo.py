"""`yadtq demo`."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
from rich.console import Console

from yadtq.cli.options import KafkaOption, RedisOption  # noqa: TC001 - typer reads annotations at run time

__all__ = ["demo"]

#: Of what is not a terminal: wide enough for the tables.
_PLAIN_WIDTH = 110


def demo(
    *,
    workers: Annotated[int, typer.Option(help="Worker processes; one of them is killed half-way.")] = 4,
    concurrency: Annotated[int, typer.Option(min=1, help="Tasks at once in each.")] = 4,
    limit: Annotated[int | None, typer.Option(min=10, help="This many files, not the whole standard library.")] = None,
    app_name: Annotated[str | None, typer.Option(help="Default: a new one, demo-XXXXXX.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> int:
    """Analyse Python's standard library with a supervisor and its workers, kill one, and check every result.

    On a Kafka and Redis of its own, or on those given by --kafka and --redis.
    """
    from yadtq.demo.run import Options, run

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    options = Options(workers, concurrency, limit, kafka, redis, app_name, keep)

    async def work() -> int:
        # As Ctrl-C: everything that was started is ended in order.
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await run(options, console)

    try:
        return asyncio.run(work())
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
