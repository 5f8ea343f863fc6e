"""The tasks of an app, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.errors import ConfigError, UnknownTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from yadtq.task import Task

__all__ = ["PING", "Registry"]

#: A task that every app has: it shows that a worker takes tasks and that its results arrive.
PING = "yadtq.ping"


class Registry:
    """Name to task. A name is on the wire: renaming a task orphans what is queued under the old name."""

    def __init__(self, own: Iterable[Task[Any, Any]] = ()) -> None:
        """own: tasks of YADTQ itself, which are found by their names and not listed."""
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._own = {task.name: task for task in own}

    def add(self, task: Task[Any, Any]) -> None:
        """A function that is defined again, as by a notebook's cell, takes the place of its former self.

        Raises `ConfigError` for two functions of one name.
        """
        known = self._tasks.get(task.name)
        if known is not None and not _is_redefined(known.function, task.function):
            raise ConfigError(
                f"two tasks are named {task.name!r} ({known.function.__module__} and {task.function.__module__}): "
                "give one of them another name with @app.task(name=...)"
            )
        self._tasks[task.name] = task

    def find(self, name: str) -> Task[Any, Any] | None:
        return self._tasks.get(name) or self._own.get(name)

    def get(self, name: str) -> Task[Any, Any]:
        """Raises `UnknownTask`."""
        task = self.find(name)
        if task is None:
            raise UnknownTask(name, list(self._tasks))
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task[Any, Any]]:
        return iter(self._tasks.values())


def _is_redefined(before: Callable[..., Any], now: Callable[..., Any]) -> bool:
    return before is now or (before.__module__, before.__qualname__) == (now.__module__, now.__qualname__)
