"""The demo's app and its one task.

Each run has an app of its own, so that runs against one server do not interfere. The app's name is its attribute here:
`python -m yadtq.supervisor yadtq.demo.tasks:demo-1f3a` runs the tasks of the app "demo-1f3a".
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yadtq.app import Yadtq
from yadtq.context import TaskContext  # noqa: TC001 - a task's annotations are read at run time
from yadtq.demo.complexity import FunctionComplexity, functions_of

__all__ = ["PREFIX", "Report", "analyse", "make_app", "measure"]

PREFIX = "demo"
#: CPython's parser counts its depth in one place for all threads, and fails if another thread comes between
#: ("AST constructor recursion depth mismatch", python/cpython#106905). The GIL lets only one parse at a time anyway.
_PARSER = threading.Lock()


@dataclass(frozen=True)
class Report:
    """What is found in one file, and which attempt on which worker found it.

    error: why it can't be parsed (some of the standard library's tests are meant to be that way). started_at: seconds
    since the epoch. cpu_s: without the waits for other tasks of the same worker, which duration_s includes.
    """

    path: str
    sha256: str
    lines: int = 0
    functions: list[FunctionComplexity] = field(default_factory=list)
    error: str | None = None
    worker: str = ""
    attempt: int = 0
    started_at: float = 0.0
    duration_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def complexity(self) -> int:
        """Of all functions together."""
        return sum(function.complexity for function in self.functions)


def measure(path: str, source: bytes) -> Report:
    """Pure: the same for the same source, wherever it runs."""
    digest, lines = hashlib.sha256(source).hexdigest(), len(source.splitlines())
    try:
        with _PARSER:
            tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        return Report(path, digest, lines, error=" ".join(str(error).split()))
    return Report(path, digest, lines, functions_of(tree))


def analyse(ctx: TaskContext, path: str) -> Report:
    """One file. A sync function, as it keeps a processor busy: it runs in a thread, and heartbeats stay on time."""
    _give_way()
    started_at, started, cpu_started = time.time(), time.perf_counter(), time.thread_time()
    found = measure(path, Path(path).read_bytes())
    return Report(
        path,
        found.sha256,
        found.lines,
        found.functions,
        found.error,
        worker=ctx.worker,
        attempt=ctx.attempt,
        started_at=started_at,
        duration_s=time.perf_counter() - started,
        cpu_s=time.thread_time() - cpu_started,
    )


def _give_way() -> None:
    """Lower the priority of batch work, so that event loops and the start of a dead worker's successor come first. By
    thread, on Linux.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def make_app(name: str, **settings: Any) -> Yadtq:
    """The app of one run, with `analyse`."""
    app = Yadtq(name, **settings)
    app.task(analyse)
    return app


def __getattr__(name: str) -> Yadtq:
    if not name.startswith(PREFIX):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return make_app(name)
