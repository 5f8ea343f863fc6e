"""Shows a run while it is in progress: a live view in a terminal, lines of text elsewhere (a CI log)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from yadtq.demo.progress import label

if TYPE_CHECKING:
    from yadtq.demo.progress import Progress

__all__ = ["show"]

_LIVE_S = 0.125
_PLAIN_S = 0.1
_PLAIN_LINE_S = 1.0
_EVENTS = 8


async def show(progress: Progress, console: Console, done: asyncio.Event) -> None:
    """Until `done`, and then once more."""
    await (_show_live if console.is_terminal else _show_plain)(progress, console, done)


async def _show_live(progress: Progress, console: Console, done: asyncio.Event) -> None:
    with Live(_view(progress), console=console, auto_refresh=False) as live:
        while not await _within(done, _LIVE_S):
            live.update(_view(progress), refresh=True)
        live.update(_view(progress), refresh=True)


async def _show_plain(progress: Progress, console: Console, done: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    told, due, ended, last = 0, loop.time(), False, ""
    while not ended:
        ended = await _within(done, _PLAIN_S)
        for event in progress.events[told:]:
            console.print(event, markup=False, highlight=False, soft_wrap=True)
            told += 1
        line = _line(progress)
        if progress.started is not None and line != last and (ended or loop.time() >= due):
            due, last = loop.time() + _PLAIN_LINE_S, line
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _line(progress: Progress) -> str:
    counts = "  ".join(f"{label(worker)} {count}" for worker, count in sorted(progress.per_worker.items()))
    return f"         {progress.done}/{progress.total} tasks  {progress.rate:.0f}/s  {counts}"


def _view(progress: Progress) -> Group:
    head = Table.grid(padding=(0, 2))
    head.add_row(
        ProgressBar(total=progress.total, completed=progress.done, width=50),
        f"[bold]{progress.done}[/]/{progress.total} tasks",
        f"{progress.rate:.0f}/s",
        f"{progress.elapsed_s:.1f} s",
    )
    events = Text("\n".join(progress.events[-_EVENTS:]), style="dim")
    return Group(head, "", _workers(progress), "", events)


def _workers(progress: Progress) -> Table:
    table = Table("worker", "pid", "phase", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("running", "tasks done"):
        table.add_column(title, justify="right")
    beats = {beat.worker: beat for beat in progress.crew}
    killed = progress.kill.worker if progress.kill else None
    for worker in sorted(beats.keys() | progress.per_worker.keys()):
        beat, count = beats.get(worker), str(progress.per_worker[worker])
        if worker == killed:
            table.add_row(label(worker), "", "killed", "", count, style="red")
        elif beat is not None:
            table.add_row(label(worker), str(beat.pid), beat.phase, str(len(beat.running)), count)
        else:
            table.add_row(label(worker), "", "", "", count)
    return table


async def _within(done: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await done.wait()
    except TimeoutError:
        return False
