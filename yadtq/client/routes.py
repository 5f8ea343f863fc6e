"""Hooks that may change a submit: another topic, another value, headers, or the answer that the task exists already.

A route is called after the encoding and before the append to Kafka, for each task, in the order of the list. Without
routes there is no call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from yadtq.runtime.seams import OutRecord
from yadtq.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Existing", "Route", "Submission", "TaskOrName", "routed", "routed_each"]

#: A client without any task of its own (a script, another team's service) submits by name, unvalidated here.
TaskOrName: TypeAlias = Task[Any, Any] | str
#: Task id and record. A plain tuple: one for each task that is under way.
Submission: TypeAlias = tuple[str, OutRecord]


@dataclass(frozen=True, slots=True)
class Existing:
    """Nothing is sent: this task replaces the submitted one, and the caller gets a handle to it."""

    task_id: str


class Route(Protocol):
    """Called once per task, concurrently for several tasks."""

    async def __call__(
        self, submission: Submission, task: TaskOrName, options: Mapping[str, Any]
    ) -> Submission | Existing:
        """The submission, unchanged or another one with the same id, or `Existing`.

        options: those of the call, checked; the task has its own. It must enforce a deadline of its own. An error that
        it raises (a `SubmitError`, `StoreUnavailable`) goes to the caller, and nothing is sent.
        """
        ...


async def routed(
    routes: Sequence[Route], submission: Submission, task: TaskOrName, options: Mapping[str, Any]
) -> Submission | Existing:
    """Call all routes; the first that returns `Existing` is the last one called."""
    for route in routes:
        answer = await route(submission, task, options)
        if isinstance(answer, Existing):
            return answer
        submission = answer
    return submission


async def routed_each(
    routes: Sequence[Route], submissions: Sequence[Submission], task: TaskOrName, options: Mapping[str, Any]
) -> list[Submission | Existing]:
    """`routed` for many, concurrently. Raises the first error, after all have ended."""
    answers = await asyncio.gather(
        *(routed(routes, submission, task, options) for submission in submissions), return_exceptions=True
    )
    found: list[Submission | Existing] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found
