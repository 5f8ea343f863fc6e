"""The seams of the supervisor besides its servers: how a worker process is started, and who owns which slot.

They exist so that the real supervisor runs on simulated processes and virtual time. Nothing here touches the system.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["Beat", "Order", "Process", "Slot", "Slots", "Spawn"]


@dataclass(slots=True, eq=False)
class Slot:
    """A place that this supervisor owns. id: the Kafka `group_instance_id`. lock: proves the ownership; opaque to
    others.
    """

    number: int
    id: str
    lock: int = -1


class Slots(Protocol):
    """The slots of one app on one host. Each belongs to one supervisor at a time."""

    @property
    def prefix(self) -> str:
        """What the ids of all slots of this app on this host begin with; the number follows."""
        ...

    def take(self, avoid: Collection[str] = ()) -> Slot:
        """The lowest free one. avoid: ids that must not be used. Raises `ConfigError` if there is none."""
        ...

    def release(self, slot: Slot) -> None:
        """May be repeated."""
        ...

    def release_all(self) -> None: ...

    def refresh(self) -> Sequence[Slot]:
        """Called from time to time to keep them. Returns those that another supervisor owns now. Raises OSError,
        `ConfigError`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Beat:
    """A line from a worker's pipe. error: why it is going to exit, if it reports a reason."""

    phase: str
    seq: int = 0
    loop_lag_s: float = 0.0
    error: str | None = None


class Process(Protocol):
    """A worker process."""

    @property
    def worker(self) -> str:
        """The worker id, new for each process."""
        ...

    @property
    def pid(self) -> int: ...

    def signal(self, signum: int) -> None:
        """To the process alone; nothing happens if it has ended."""
        ...

    def kill(self) -> None:
        """SIGKILL to it and to all that it has started; nothing happens if it has ended."""
        ...

    @property
    def out_of_memory(self) -> bool:
        """Whether the system has killed processes because memory ran out while it lived. Known once it has ended."""
        ...

    async def ended(self) -> int:
        """Wait for its end. Returns the exit code, or minus the signal. Called once."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker process is started with.

    worker: its id, new for each process. supervisor: the id of the one that starts it. secret: seals its heartbeats.
    """

    slot: Slot
    worker: str
    supervisor: str
    secret: str = field(repr=False)


class Spawn(Protocol):
    """Starts one worker process."""

    async def __call__(self, order: Order, on_beat: Callable[[Beat], None]) -> Process:
        """on_beat: called in the event loop for each line from its pipe. Raises OSError if none can be started now."""
        ...
