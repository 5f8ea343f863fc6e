"""The way of an attempt, without anything before or behind it: an executor, and what it hands over."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.apps import bring, make_attempt
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.delivery.place import Place
from yadtq.execution.calls import Calls
from yadtq.execution.executor import Executor
from yadtq.execution.limits import Limits
from yadtq.execution.runners.loop import LoopRunner
from yadtq.execution.runners.threads import ThreadRunner
from yadtq.execution.slots import Slots
from yadtq.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.chain import Middleware
    from yadtq.execution.outcome import Outcome

__all__ = ["ExecutionBench", "error_of", "execution_bench", "forever"]


class ExecutionBench:
    """outcomes: all so far. free_then: free slots when each was handed over."""

    def __init__(
        self,
        *,
        concurrency: int = 1_000,
        threads: int = 32,
        max_result_bytes: int = 8_000_000,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.app = Yadtq("t")
        outside = memory_outside(clock=SystemClock())
        self.limits = Limits(outside.clock)
        self.threads = ThreadRunner(threads, self.limits)
        self.outcomes: list[Outcome] = []
        self.free_then: list[int] = []
        self.slots = Slots(concurrency)
        calls = Calls(
            app="t",
            worker_id="w1",
            max_result_bytes=max_result_bytes,
            loop=LoopRunner(self.limits),
            threads=self.threads,
            middleware=middleware,
        )
        self.executor = Executor(outside=outside, slots=self.slots, calls=calls, on_outcome=self._end)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.free_then.append(self.slots.free)

    def start(self, attempt: Attempt) -> Attempt:
        """In a slot of its own, as after a claim."""
        bring(attempt.origin, Place.RUNNING)
        self.slots.reserve(1)
        self.slots.start(1)
        self.executor.start(attempt)
        return attempt

    async def ended(self, count: int = 1) -> list[Outcome]:
        await eventually(lambda: len(self.outcomes) >= count, what=f"{count} outcomes")
        return self.outcomes

    async def run(self, function: Callable[..., Any], *args: Any, **fields: Any) -> Outcome:
        """Of the only task. fields: see `make_attempt`."""
        self.start(make_attempt(self.app.task(function), *args, **fields))
        return (await self.ended())[0]


@asynccontextmanager
async def execution_bench(**options: Any) -> AsyncIterator[ExecutionBench]:
    """options: of `ExecutionBench`. At the end every slot must have come back."""
    made = ExecutionBench(**options)
    async with asyncio.timeout(30):
        running = asyncio.create_task(made.executor.run())
        await asyncio.sleep(0)
        yield made
        made.executor.stop()
        await running
    assert made.executor.running == {}
    assert (made.slots.free, made.slots.reserved, made.slots.running) == (made.slots.total, 0, 0)


def error_of(outcome: Outcome) -> dict[str, str]:
    found: dict[str, str] = json.loads(outcome.payload)
    return found


async def forever() -> None:
    await asyncio.Event().wait()
