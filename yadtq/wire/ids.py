"""Names of tasks: the id of one task, and the name of its kind. What a worker could not read is refused here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from yadtq.errors import ConfigError
from yadtq.shown import shown_value

if TYPE_CHECKING:
    import random

__all__ = ["TaskId", "TaskName", "checked_id", "checked_name", "new_task_id"]

TaskId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\s{}]+$")]
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200)]

_TASK_ID: TypeAdapter[str] = TypeAdapter(TaskId)
_TASK_NAME: TypeAdapter[str] = TypeAdapter(TaskName)


def new_task_id(chance: random.Random) -> str:
    """96 random bits: no two alike in the lifetime of any system (2⁴⁸ ids before a collision is likely).

    chance: `random.SystemRandom` outside of tests. A generator with a state of its own would give a forked process the ids
    of its parent.
    """
    return chance.randbytes(12).hex()


def checked_id(task_id: str) -> str:
    """Raises `ConfigError`."""
    return _checked(_TASK_ID, task_id, "task_id: 1 to 128 characters, no spaces and no braces")


def checked_name(name: str) -> str:
    """Raises `ConfigError`."""
    return _checked(_TASK_NAME, name, "task name: 1 to 200 characters")


def _checked(rule: TypeAdapter[str], value: str, words: str) -> str:
    try:
        return rule.validate_python(value)
    except ValidationError:
        raise ConfigError(f"{words}, not {shown_value(value)}") from None
