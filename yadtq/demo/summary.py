"""The tables at the end of a run."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from yadtq.demo.progress import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from yadtq.demo.progress import Progress

__all__ = ["summarise"]

_MOST = 8
_MOST_PROBLEMS = 20


def summarise(progress: Progress, problems: Sequence[str], console: Console) -> None:
    """problems: of `check.problems` and of the run itself."""
    console.print()
    console.print(_slowest(progress))
    console.print(_complex(progress))
    console.print(_workers(progress))
    console.print(_figures(progress))
    if not problems:
        console.print(
            f"[bold green]OK[/] every one of {progress.total} files was reported exactly once, with the right SHA-256",
            highlight=False,
        )
        return
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(f"[red]{escape(problem)}[/]", highlight=False)
    console.print(f"[bold red]FAILED[/] {len(problems)} problems", highlight=False)


def _short(path: str) -> str:
    root = Path(sysconfig.get_paths()["stdlib"])
    return escape(str(Path(path).relative_to(root) if Path(path).is_relative_to(root) else path))


def _slowest(progress: Progress) -> Table:
    table = Table("module", title="Slowest modules", title_justify="left")
    for title in ("lines", "functions", "complexity", "CPU seconds", "seconds"):
        table.add_column(title, justify="right")
    for report in sorted(progress.reports, key=lambda report: -report.cpu_s)[:_MOST]:
        numbers = (report.lines, len(report.functions), report.complexity)
        table.add_row(_short(report.path), *map(str, numbers), f"{report.cpu_s:.3f}", f"{report.duration_s:.3f}")
    return table


def _complex(progress: Progress) -> Table:
    table = Table("function", "module", title="Most complex functions", title_justify="left")
    table.add_column("complexity", justify="right")
    found = [(function, report.path) for report in progress.reports for function in report.functions]
    for function, path in sorted(found, key=lambda pair: -pair[0].complexity)[:_MOST]:
        table.add_row(escape(function.name), _short(path), str(function.complexity))
    return table


def _workers(progress: Progress) -> Table:
    table = Table("worker", title="Workers", title_justify="left")
    table.add_column("tasks", justify="right")
    table.add_column("")
    killed = progress.kill.worker if progress.kill else None
    # Those that had no time for a task are shown, too.
    known = progress.per_worker.keys() | progress.pids.keys()
    for worker in sorted(known):
        note = "killed" if worker == killed else "its successor" if worker == progress.successor else ""
        table.add_row(label(worker), str(progress.per_worker[worker]), note)
    return table


def _figures(progress: Progress) -> Table:
    table = Table(show_header=False, title="Figures", title_justify="left")
    for what, value in _rows(progress):
        table.add_row(what, value)
    return table


def _rows(progress: Progress) -> list[tuple[str, str]]:
    lines = sum(report.lines for report in progress.reports)
    functions = sum(len(report.functions) for report in progress.reports)
    rows = [
        ("tasks", f"{progress.total} files, {lines:,} lines, {functions:,} functions"),
        ("time", f"{progress.elapsed_s:.1f} s, {progress.rate:.0f} tasks/s"),
    ]
    if (kill := progress.kill) is None:
        return rows
    rows.append(("killed", f"{label(kill.worker)} (pid {kill.pid}) after {kill.done} tasks, by kill -9"))
    if progress.respawned_s is not None:
        rows.append(("successor ready after", f"{progress.respawned_s:.2f} s"))
    if (recovery_s := progress.recovery_s) is None:
        rows.append(("interrupted tasks", "none: it was between two tasks"))
    else:
        by = ", ".join(sorted({label(report.worker) for report in progress.interrupted}))
        rows.append(("interrupted tasks", f"{len(progress.interrupted)}, run again by {by}"))
        first_s, last_s = recovery_s
        rows.append(
            ("recovery time", f"{first_s:.2f} s from the kill until the first ran again, {last_s:.2f} s the last")
        )
    rows.append(("shares changed for the others", str(progress.changed)))
    return rows
