"""From an attempt to the bytes of its result: arguments, context, the call itself, and the encoded answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from yadtq.context import TaskContext
from yadtq.errors import ResultTooLarge
from yadtq.execution.chain import chained
from yadtq.options import effective

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.chain import Middleware
    from yadtq.execution.runners.runner import Runner
    from yadtq.task import Task

__all__ = ["Calls"]


class Calls:
    """One a worker. runners: `loop` for async functions, `threads` for sync ones.

    state: settable; what tasks get as `ctx.state`.
    """

    def __init__(
        self,
        *,
        app: str,
        worker_id: str,
        max_result_bytes: int,
        loop: Runner,
        threads: Runner,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._app = app
        self._worker_id = worker_id
        self._max_result_bytes = max_result_bytes
        self._loop = loop
        self._threads = threads
        self._middleware = middleware
        self.state: Any = None

    async def result(self, attempt: Attempt, task: Task[Any, Any]) -> bytes:
        """Run the function once. Raises what the function raises, `InvalidArguments`, or `Discard` for a wrong result."""
        envelope = attempt.envelope
        # From the record, for each attempt: the attempt before may have modified its arguments.
        args, kwargs = task.signature.from_wire(envelope)
        attempt.timeout_s = effective(task, envelope).timeout_s
        runner = self._loop if task.is_async else self._threads
        if not (task.takes_context or self._middleware):
            value = await runner.call(attempt, task.function, args, kwargs)
        else:
            context = self._context(attempt, task)
            if task.takes_context:
                args = (context, *args)
            call = partial(runner.call, attempt, task.function, args, kwargs)
            value = await chained(self._middleware, context, call)()
        payload = task.signature.encode_result(value)
        if len(payload) > self._max_result_bytes:
            raise ResultTooLarge(
                f"the result is {len(payload)} bytes encoded, max_result_bytes is {self._max_result_bytes}: "
                "return a reference to the data"
            )
        return payload

    def _context(self, attempt: Attempt, task: Task[Any, Any]) -> TaskContext[Any]:
        return TaskContext(
            task_id=attempt.envelope.id,
            task=task.name,
            app=self._app,
            worker=self._worker_id,
            attempt=attempt.number,
            fencing_token=attempt.nonce,
            state=self.state,
        )

    def left_behind(self) -> Collection[Attempt]:
        """Attempts that have ended though their function has not."""
        return [*self._loop.left_behind(), *self._threads.left_behind()]
