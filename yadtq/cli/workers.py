"""`yadtq workers`: the live workers of an app."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from yadtq.cli.options import AppOption, JsonOption, KafkaOption, RedisOption, find_app
from yadtq.cli.output import cell, console, print_json, table_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from yadtq.client.client import Client
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["table", "workers"]

_NUMBERS = ("pid", "running", "lag", "done", "failed", "loop lag", "memory")
_NAME = 100


def workers(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    json: JsonOption = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """List the live workers of an app, as told by their heartbeats."""
    shows = _Shows(console(), json)

    async def work() -> None:
        async with find_app(app, kafka, redis).client() as client:
            if watch:
                await shows.watch(client)
            else:
                shows.once(await client.workers())

    asyncio.run(work())


class _Shows:
    """json: an array for each list of workers, a line each."""

    def __init__(self, console: Console, json: bool) -> None:
        self._console, self._json = console, json

    def once(self, beats: Sequence[Heartbeat]) -> None:
        if self._json:
            print_json(beats)
        elif beats:
            self._console.print(table(beats))
        else:
            self._console.print("no live workers")

    async def watch(self, client: Client) -> None:
        crews: AsyncGenerator[list[Heartbeat], Any] = client.watch_workers()  # type: ignore[assignment]
        async with aclosing(crews):
            if self._json or not self._console.is_terminal:
                async for beats in crews:
                    self.once(beats)
                return
            with Live(table([]), console=self._console, auto_refresh=False) as live:
                async for beats in crews:
                    live.update(table(beats), refresh=True)


def table(beats: Sequence[Heartbeat]) -> Table:
    """One row a worker. Any client that can write to the topic can choose its names."""
    return table_of(("worker", "phase", *_NUMBERS), [_row(beat) for beat in beats], numbers=_NUMBERS)


def _row(beat: Heartbeat) -> list[Text]:
    numbers = (
        str(beat.pid),
        f"{len(beat.running)}/{beat.concurrency}",
        str(sum(beat.partitions.values())),
        str(beat.succeeded),
        str(beat.failed),
        f"{beat.loop_lag_s * 1000:.0f} ms",
        f"{beat.rss_bytes / 2**20:.0f} MB",
    )
    return [cell(beat.worker, _NAME), cell(beat.phase, _NAME), *map(cell, numbers)]
