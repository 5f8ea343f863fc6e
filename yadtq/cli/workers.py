"""`yadtq workers`: the live workers of an app."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from yadtq.cli.options import AppOption, KafkaOption, RedisOption, find_app
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any

    from yadtq.client.client import Client
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["table", "workers"]

_NUMBERS = ("pid", "running", "lag", "done", "failed", "loop lag", "memory")
_NAME = 100


def workers(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """List the live workers of an app, as told by their heartbeats."""
    console = Console()

    async def work() -> None:
        async with find_app(app, kafka, redis).client() as client:
            if watch:
                await _watch(client, console)
            else:
                _print(console, await client.workers())

    asyncio.run(work())


def _print(console: Console, beats: Sequence[Heartbeat]) -> None:
    if beats:
        console.print(table(beats))
    else:
        console.print("no live workers")


async def _watch(client: Client, console: Console) -> None:
    crews: AsyncGenerator[list[Heartbeat], Any] = client.watch_workers()  # type: ignore[assignment]
    async with aclosing(crews):
        if not console.is_terminal:
            async for beats in crews:
                _print(console, beats)
            return
        with Live(table([]), console=console, auto_refresh=False) as live:
            async for beats in crews:
                live.update(table(beats), refresh=True)


def table(beats: Sequence[Heartbeat]) -> Table:
    """One row a worker."""
    found = Table("worker", "phase")
    for title in _NUMBERS:
        found.add_column(title, justify="right")
    for beat in beats:
        numbers = (
            str(beat.pid),
            f"{len(beat.running)}/{beat.concurrency}",
            str(sum(beat.partitions.values())),
            str(beat.succeeded),
            str(beat.failed),
            f"{beat.loop_lag_s * 1000:.0f} ms",
            f"{beat.rss_bytes / 2**20:.0f} MB",
        )
        # Not as markup: any client that can write to the topic can choose the name.
        found.add_row(Text(shown(beat.worker, _NAME)), Text(shown(beat.phase, _NAME)), *numbers)
    return found
