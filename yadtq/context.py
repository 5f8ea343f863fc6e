"""What a running task can read about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from typing_extensions import TypeVar  # with defaults, which Python has from 3.13 on

__all__ = ["TaskContext"]

S = TypeVar("S", default=object)


@dataclass(frozen=True, slots=True)
class TaskContext(Generic[S]):
    """Given to a task whose first parameter is annotated with it: `def send(ctx: TaskContext, to: str)`.

    attempt: 1 on the first run. A higher one may follow an attempt whose side effects have already happened (G2): make
    them idempotent by `idempotency_key`, the same for all attempts, or fence them by `fencing_token`, new for each.

    state: what the app's lifespan yields, None without one. `ctx: TaskContext[State]` gives it a type.
    """

    task_id: str
    task: str
    app: str
    worker: str
    attempt: int
    fencing_token: str
    state: S

    @property
    def idempotency_key(self) -> str:
        """Identifies the task, the same for every attempt."""
        return self.task_id
