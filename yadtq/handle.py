"""A task as its submitter sees it: its id, status and result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from yadtq.errors import ResultUnreadable
from yadtq.wire.codec import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from yadtq.wire.states import TaskStatus

__all__ = ["ResultSource", "TaskHandle"]

R = TypeVar("R")


class ResultSource(Protocol):
    """Where a handle asks: the client."""

    async def status(self, task_id: str) -> TaskStatus: ...

    async def final_payload(self, task_id: str, timeout: float | None) -> bytes: ...


class TaskHandle(Generic[R]):
    """A submitted task. Cheap, holds no connection; `client.handle(id)` gets it back anywhere."""

    __slots__ = ("_decode", "_source", "id")

    def __init__(self, task_id: str, source: ResultSource, decode: Callable[[bytes], R]) -> None:
        self.id = task_id
        self._source = source
        self._decode = decode

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def status(self) -> TaskStatus:
        """The state of the task now. Raises `TaskNotFound`, `ResultUnreadable` and `StoreUnavailable`."""
        return await self._source.status(self.id)

    async def result(self, timeout: float | None = None) -> R:
        """What the task returned, once it has. timeout: seconds; None waits for as long as it takes.

        Raises `TaskFailed` with what the last attempt raised, `TaskCancelled`, `ResultLost` after a loss of Redis's
        data, or `TimeoutError`, after which the task continues and its result may be requested again.
        """
        payload = await self._source.final_payload(self.id, timeout)
        try:
            return self._decode(payload)
        except CodecError as error:
            raise ResultUnreadable(self.id, str(error)) from error

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()
