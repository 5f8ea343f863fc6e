"""Names of tasks: the id of one task, and the name of its kind. What a worker could not read is refused here.

An id belongs to one home: the queue and the name of the task that it was first seen with. Whoever may write to one queue
could otherwise send a record under the id of a task of another one, and its result would be that record's.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from yadtq.errors import ConfigError
from yadtq.shown import shown_value

if TYPE_CHECKING:
    import random

__all__ = ["TaskId", "TaskName", "checked_id", "checked_name", "home_of", "new_task_id"]

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


@lru_cache(maxsize=4_096)
def home_of(topic: str, task: str) -> str:
    """A digest of the queue and the task that an id belongs to. topic: of the queue.

    62 bits as a number of 19 digits: Redis keeps a whole number in 9 bytes, and a foreign name with the same digest can't
    be found. Not of the arguments: the same id submitted again with others is the same task.
    """
    digest = hashlib.blake2b(f"{topic}\0{task}".encode(errors="surrogatepass"), digest_size=8).digest()
    return str(int.from_bytes(digest) >> 2 | 1 << 62)


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
