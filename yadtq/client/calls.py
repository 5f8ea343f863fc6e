"""A call as bytes that are the same in every process: what the id of a task that a task submits is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.task import Task
from yadtq.wire.codec import encode

if TYPE_CHECKING:
    from yadtq.client.routes import TaskOrName

__all__ = ["call_key"]


def call_key(task: TaskOrName, queue: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """args, kwargs: as they go into a record. Raises `CodecError` for arguments without a JSON form."""
    if not isinstance(task, Task):
        return encode([queue, task, args, kwargs])
    if task.signature.has_sets:
        # Equal sets of text are written in another order by each process. Calls that differ in the order of a list
        # alone are then equal calls, which are numbered.
        args, kwargs = _sorted(args), _sorted(kwargs)
    return encode([queue, task.name, args, kwargs])


def _sorted(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return sorted((_sorted(item) for item in value), key=encode)
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    return value
