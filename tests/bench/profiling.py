"""cProfile around a block, and how a profile is printed."""

from __future__ import annotations

import cProfile
import io
import pstats
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class profiled:
    """Profiles into the file `path`; does nothing if that is None."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._profile = cProfile.Profile() if path else None

    def __enter__(self) -> profiled:
        if self._profile is not None:
            self._profile.enable()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._profile is not None and self._path is not None:
            self._profile.disable()
            self._profile.dump_stats(self._path)


def top(path: Path, count: int, tasks: int) -> str:
    """The functions with the most time of their own, and that time a task. cProfile slows small functions the most."""
    out = io.StringIO()
    stats = pstats.Stats(str(path), stream=out)
    total = sum(row[2] for row in stats.stats.values())  # type: ignore[attr-defined]
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:count]  # type: ignore[attr-defined]
    out.write(f"{total:.2f} s in all, {total / tasks * 1e6:.1f} us a task, under the profiler\n")
    out.write(f"{'own us/task':>11} {'cum us/task':>11} {'calls/task':>10}  function\n")
    for (file, line, name), (_, calls, own, cumulative, _) in rows:
        place = name if file == "~" else f"{'/'.join(file.split('/')[-3:])}:{line} {name}"
        out.write(f"{own / tasks * 1e6:11.2f} {cumulative / tasks * 1e6:11.2f} {calls / tasks:10.2f}  {place}\n")
    return out.getvalue()
