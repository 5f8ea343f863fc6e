"""Tasks that were running when a worker died run here, apart from all others, until they have ended normally or were
shown to be the cause.

The death of a worker proves nothing about one of a hundred tasks, even less if it was ended from outside (D22). So its
tasks are *suspects*, and run in a child process of the next worker. A child that dies harms no worker. Suspects share a
child at first, because most deaths are accidents, and all should be done soon. Those that were in a child that died
continue in smaller groups, and finally alone: then a death is evidence. A task that ends normally is not a suspect any
more.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome
from yadtq.execution.quarantine.report import proofs_needed
from yadtq.execution.quarantine.ward import Died
from yadtq.runtime.service import Service, Stage
from yadtq.shown import shown
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.quarantine.ward import Ward
    from yadtq.runtime.clock import Clock

__all__ = ["Quarantine", "Suspects", "Unconfined"]

log = logging.getLogger("yadtq.worker")

#: Sizes of groups, each after a death in one of the size before.
_SIZES = (64, 8, 1)
_CHILDREN = 4
#: An idle child is kept for this long: its start takes longer than most tasks.
_IDLE_S = 10.0
_LOOK_S = 1.0
_RETRY_S = 0.5
#: Histories of suspects that went to other workers are forgotten in the order in which they came.
_MOST = 10_000


class Suspects(Protocol):
    """Decides whether a suspect may be claimed, and then runs it.

    on_free: called when there may be a free place without a call of `dismiss`: a child has ended.
    """

    on_free: Callable[[], None]

    def admit(self, task_id: str, crashes: int) -> bool:
        """Whether it may be claimed now; then a place is kept for it until `dismiss`."""
        ...

    def dismiss(self, task_id: str) -> None:
        """It was not granted, or its attempt has ended."""
        ...

    def places(self) -> int:
        """How many suspects that are not known here yet may be granted with the next claim."""
        ...

    async def outcome(self, attempt: Attempt, plain: Callable[[Attempt], Awaitable[Outcome]]) -> Outcome:
        """Run one. plain: how a task runs that is not a suspect. Raises CancelledError, and what `plain` raises."""
        ...


@dataclass(slots=True)
class _History:
    """size: of the largest group that it may be in. alone: how often it was alone in a child that died."""

    size: int = _SIZES[0]
    alone: int = 0


class Unconfined:
    """`Suspects` without child processes, for an app that can't be imported by its name: one after the other, among
    others.

    After a first crash no task is delayed: most crashes are accidents.
    """

    def __init__(self) -> None:
        self.on_free: Callable[[], None] = lambda: None
        self._holder: str | None = None

    def admit(self, task_id: str, crashes: int) -> bool:
        if crashes <= 1:
            return True
        if self._holder not in (None, task_id):
            return False
        self._holder = task_id
        return True

    def dismiss(self, task_id: str) -> None:
        if self._holder == task_id:
            self._holder = None

    def places(self) -> int:
        return 0

    async def outcome(self, attempt: Attempt, plain: Callable[[Attempt], Awaitable[Outcome]]) -> Outcome:
        return await plain(attempt)


class Quarantine(Service):
    """`Suspects` in child processes; a service that ends idle ones. make: creates a ward of a given size."""

    name = "quarantine"
    stage = Stage.RUN

    def __init__(self, *, make: Callable[[int], Ward], clock: Clock) -> None:
        self.on_free: Callable[[], None] = lambda: None
        self._make = make
        self._clock = clock
        #: Each with the time since when it has been idle.
        self._wards: dict[Ward, float] = {}
        self._retired: list[Ward] = []
        self._histories: OrderedDict[str, _History] = OrderedDict()
        #: Which ward an admitted suspect is to run in.
        self._places: dict[str, Ward] = {}
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while not self._stopped.is_set():
                with anyio.move_on_after(_LOOK_S):
                    await self._stopped.wait()
                await self._close_idle()
        finally:
            for ward in (*self._wards, *self._retired):
                await ward.close()

    async def _close_idle(self) -> None:
        now = self._clock.monotonic()
        for ward, idle_since in list(self._wards.items()):
            if self._load(ward):
                self._wards[ward] = now
            elif ward.ended or now - idle_since > _IDLE_S:
                self._retire(ward)
        retired, self._retired = self._retired, []
        for ward in retired:
            await ward.close()
        if retired:
            self.on_free()

    def _retire(self, ward: Ward) -> None:
        """The service closes it soon."""
        del self._wards[ward]
        self._retired.append(ward)

    def _load(self, ward: Ward) -> int:
        """How many are in it or have a place there."""
        waiting = sum(1 for place in self._places.values() if place is ward)
        return max(ward.inside, waiting)

    def _ward_for(self, size: int) -> Ward | None:
        """One with a place in a group of this size; None if all children are taken."""
        for ward in self._wards:
            if ward.size == size and not (ward.ended or ward.closed) and self._load(ward) < size:
                return ward
        if len(self._wards) >= _CHILDREN:
            idle = next((ward for ward in self._wards if not self._load(ward)), None)
            if idle is None:
                return None
            self._retire(idle)  # it was kept warm for a group of another size
        return self._open(size)

    def _open(self, size: int) -> Ward:
        ward = self._make(size)
        self._wards[ward] = self._clock.monotonic()
        return ward

    def _history(self, task_id: str) -> _History:
        history = self._histories.get(task_id)
        if history is None:
            history = self._histories[task_id] = _History()
            if len(self._histories) > _MOST:
                self._histories.popitem(last=False)
        return history

    def admit(self, task_id: str, crashes: int) -> bool:
        if task_id in self._places:
            return True
        ward = self._ward_for(self._history(task_id).size)
        if ward is None:
            return False
        self._places[task_id] = ward
        return True

    def dismiss(self, task_id: str) -> None:
        self._places.pop(task_id, None)

    def places(self) -> int:
        ward = self._ward_for(_SIZES[0])
        return 0 if ward is None else ward.size - self._load(ward)

    async def outcome(self, attempt: Attempt, plain: Callable[[Attempt], Awaitable[Outcome]]) -> Outcome:
        task_id = attempt.envelope.id
        ward = self._places.get(task_id)
        if ward is None or ward.ended:
            size = self._history(task_id).size
            found = self._ward_for(size)
            ward = self._places[task_id] = found if found is not None else self._open(size)
        try:
            outcome = await ward.run(attempt)
        except Died as death:
            return self._after(attempt, death)
        except OSError as error:  # no process can be started now: out of memory, processes or files
            log.warning("%r waits for a child process: %s", attempt, error)
            await anyio.sleep(_RETRY_S)
            return self._back(attempt)
        self._histories.pop(task_id, None)
        return outcome

    def _after(self, attempt: Attempt, death: Died) -> Outcome:
        history = self._history(attempt.envelope.id)
        if not death.alone:
            history.size = max(size for size in _SIZES if size < death.together)
            log.debug("%r was among %d in a child process that died", attempt, death.together)
            return self._back(attempt)
        history.alone += 1
        if history.alone < proofs_needed(death.report):
            log.warning("%r was alone in a child process that died: %s", attempt, shown(death.report))
            return self._back(attempt)
        self._histories.pop(attempt.envelope.id, None)
        return Outcome(attempt, TaskStatus.FAILED, crash=str(death.report))

    @staticmethod
    def _back(attempt: Attempt) -> Outcome:
        """Nothing is proven: the task is claimed again."""
        attempt.stop = StopReason.CHILD_DIED
        return Outcome(attempt, None)
