"""Keeps the wanted number of workers alive.

One loop acts; everything else only puts events on its queue: signals as intents, ends of processes and lines from their
pipes as facts. After each event that may need an answer, and a few times a second, the loop compares the wanted state
with the actual one. So two parts of the supervisor never disagree about a worker.

It does no I/O itself: the objects that it is given do (`SupervisorParts`, `Outside`), so it also runs in a simulation.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import anyio

from yadtq.errors import ConfigError
from yadtq.runtime.service import first_cause, start_services
from yadtq.supervisor.cause import came_from_outside
from yadtq.supervisor.events import tell
from yadtq.supervisor.respawn import GiveUp, RespawnPolicy
from yadtq.supervisor.rollout import Rollout
from yadtq.supervisor.seams import Order
from yadtq.supervisor.seat_life import SeatState
from yadtq.supervisor.seats import Seats, tell_of
from yadtq.supervisor.undertaker import new_worker_id
from yadtq.supervisor.watch import Verdict
from yadtq.wire.exits import DRAINED, MISCONFIGURED, UNREACHABLE, describe_exit

if TYPE_CHECKING:
    from collections.abc import Collection

    from yadtq.outside import Outside
    from yadtq.runtime.service import Service
    from yadtq.settings import SupervisorSettings
    from yadtq.supervisor.seams import Beat, Slots, Spawn
    from yadtq.supervisor.seat import Occupant, Seat
    from yadtq.supervisor.twins import Twins
    from yadtq.supervisor.undertaker import Undertaker
    from yadtq.supervisor.watch import LivenessTable

__all__ = ["Intent", "Supervisor", "SupervisorParts"]

_TICK_S = 0.25
_REFRESH_S = 60.0
_REAP_S = 5.0
_FAREWELL_S = 5.0
_WATCH_ENDS_S = 5.0
_UNREACHABLE_RETRY_S = 5.0


class Intent(Enum):
    """What signals ask for."""

    STOP = "stop"  # a second time: workers cancel their tasks; a third time: they are killed
    RESTART = "restart"  # one worker after another
    MORE = "more"
    FEWER = "fewer"


class _Exited(NamedTuple):
    seat: Seat
    occupant: Occupant
    code: int


class _Said(NamedTuple):
    seat: Seat
    worker: str
    beat: Beat


class _Left(NamedTuple):
    seat: Seat


_Event = Intent | _Exited | _Said | _Left


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorParts:
    """What a supervisor works with. watch: feeds `table` and `twins` from the heartbeat topic."""

    spawn: Spawn
    slots: Slots
    table: LivenessTable
    twins: Twins
    undertaker: Undertaker
    watch: Service


class Supervisor:
    """`await run()` once; `ask(intent)` at any time."""

    def __init__(
        self,
        *,
        own: SupervisorSettings,
        parts: SupervisorParts,
        outside: Outside,
        policy: RespawnPolicy | None = None,
        starts_at_once: int = 4,
    ) -> None:
        """starts_at_once: more would slow each other down, and the running workers."""
        self._own, self._parts = own, parts
        self._clock, self._chance = outside.clock, outside.chance
        self._policy = policy or RespawnPolicy.from_settings(own, chance=outside.chance.random)
        self._starts_at_once = starts_at_once
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._seats = Seats(
            parts.slots, outside.clock, grace_s=own.grace_s, history=self._policy.history, leave=self._leave
        )
        self._attending: set[asyncio.Task[None]] = set()
        self._rollout = Rollout(self._seats.renew, self._on_restart_aborted)
        self._stops = 0
        self._ending = False
        self._refresh_at = float("-inf")
        # Often enough that the time between two checks does not look like a freeze of this process.
        self._tick_s = min(_TICK_S, parts.table.gap_s / 3)

    @property
    def id(self) -> str:
        """Of this process; sorts by the time of its start."""
        return self._parts.twins.supervisor

    def ask(self, intent: Intent) -> None:
        """Safe in a signal handler of the loop."""
        self._events.put_nowait(intent)

    @property
    def workers(self) -> dict[str, str | None]:
        """The id of the living worker of each slot."""
        return {seat.slot.id: seat.worker for seat in self._seats}

    async def run(self) -> int:
        """Returns the exit status: 0 if asked to end, 2 if no worker accepts its configuration, 1 if all were given up.

        However it ends, also by an error or a cancellation, no process of any worker is left.
        """
        watch = self._parts.watch
        try:
            async with anyio.create_task_group() as group:
                try:
                    await start_services(group, [watch], lambda: self._ending)
                    status = await self._work()
                finally:
                    self._ending = True
                    with anyio.CancelScope(shield=True):
                        await self._clear()
                    watch.stop()
                    group.cancel_scope.deadline = anyio.current_time() + _WATCH_ENDS_S
        except BaseExceptionGroup as errors:
            raise first_cause(errors) from None
        return status

    async def _work(self) -> int:
        for _ in range(self._own.workers):
            self._seats.add()
        while (status := self._status()) is None:
            await self._reconcile()
            await self._next()
        tell("ended", status=status)
        return status

    def _status(self) -> int | None:
        if any(seat.occupant for seat in self._seats):
            return None
        if self._stops:
            return 0
        ends = [seat.given_up for seat in self._seats]
        if ends and all(ends):
            return MISCONFIGURED if all(end and end.misconfigured for end in ends) else 1
        return None

    # Events

    async def _next(self) -> None:
        """Handle events until one may need an answer, or something is due: not each line is worth a look at all seats."""
        try:
            async with asyncio.timeout(self._patience()):
                while not self._handle(await self._events.get()):
                    pass
        except TimeoutError:
            return
        while not self._events.empty():
            self._handle(self._events.get_nowait())

    def _patience(self) -> float:
        now = self._clock.monotonic()
        dues = [seat.vacancy.at - now for seat in self._seats if seat.vacancy]
        return max(0.0, min([self._tick_s, *(due for due in dues if due > 0)]))

    def _handle(self, event: _Event) -> bool:
        """Whether it may need an answer."""
        match event:
            case _Said(seat, worker, beat):
                return self._on_beat(seat, worker, beat)
            case _Exited(seat, occupant, code):
                self._on_exit(seat, occupant, code)
            case _Left(seat):
                seat.left(self._clock.monotonic())
            case Intent.STOP:
                self._on_stop()
            case Intent.RESTART:
                tell("restarting", workers=len(self._seats))
                self._rollout.begin(self._seats)
            case Intent.MORE:
                self._add_seat()
            case Intent.FEWER:
                if not self._stops:
                    self._seats.remove_one()
        return True

    def _on_beat(self, seat: Seat, worker: str, beat: Beat) -> bool:
        """Whether it was news: the first line of a process, or the first that says that it runs."""
        occupant = seat.occupant
        if occupant is None or occupant.process.worker != worker:  # a last line of the one before
            return False
        self._parts.table.piped(worker, beat.phase)
        before = occupant.heard, occupant.ran
        occupant.hear(beat)
        if beat.phase == "running" and not occupant.ran:
            occupant.ran = True
            if seat.state is SeatState.STARTING:
                seat.ready()
            now, died_at = self._clock.monotonic(), occupant.predecessor_died_at
            since_death_s = now - died_at if died_at is not None else None
            tell_of(seat, "ready", after_s=now - occupant.spawned_at, since_death_s=since_death_s)
        return (occupant.heard, occupant.ran) != before

    def _on_exit(self, seat: Seat, occupant: Occupant, code: int) -> None:
        now, process = self._clock.monotonic(), occupant.process
        self._parts.table.removed(process.worker)
        expected = occupant.kill_at is not None and code == DRAINED
        tell_of(seat, "stopped" if expected else "died", cause=occupant.kill_cause or describe_exit(code))
        # Always: a worker that ended in order holds no lease, unless Redis was away; then this ends its leases.
        outside = came_from_outside(
            code,
            asked=occupant.kill_at is not None,
            killed=occupant.kill_cause is not None,
            out_of_memory=process.out_of_memory,
        )
        self._parts.undertaker.certify(process.worker, outside=outside)
        if not expected:
            self._parts.undertaker.announce(process.worker, seat.slot.id, process.pid, occupant.last_seq + 1)
        if not seat.wanted:
            seat.emptied()
        elif occupant.kill_at is not None:
            seat.respawn(now, died_at=now)
        elif code == MISCONFIGURED and not occupant.ran:
            cause = occupant.last_words or "it refuses its configuration (exit 2); its last message is above"
            self._give_up(seat, cause, misconfigured=True)
        else:
            self._after_crash(seat, now, unreachable=code == UNREACHABLE)

    def _after_crash(self, seat: Seat, now: float, *, unreachable: bool = False) -> None:
        # While Kafka or Redis is away every worker may fail; there must still be workers when it is back.
        seat.history.record(now, charged=self._parts.table.visible() and not unreachable)
        match self._policy.decide(seat.history, now):
            case GiveUp(crashes, window_s):
                self._give_up(seat, f"{crashes} crashes within {window_s:g} s")
            case decision:
                # The worker has waited for the server already, and its slot should not stay empty when the server is
                # back.
                after_s = min(decision.after_s, _UNREACHABLE_RETRY_S) if unreachable else decision.after_s
                seat.respawn(now + after_s, died_at=now)
                tell("respawning", slot=seat.slot.id, after_s=after_s)

    def _give_up(self, seat: Seat, cause: str, *, misconfigured: bool = False) -> None:
        tell("gave-up", level=logging.ERROR, slot=seat.slot.id, cause=cause)
        seat.give_up(cause, misconfigured=misconfigured)

    def _on_restart_aborted(self, seat: Seat) -> None:
        cause = seat.given_up.cause if seat.given_up else None
        tell("restart-aborted", level=logging.ERROR, slot=seat.slot.id, cause=cause)

    def _leave(self, seat: Seat) -> None:
        if self._parts.twins.of(seat.slot.id) is not None:
            # The group knows only the slot's name: removing it would remove the worker of the other supervisor.
            self._events.put_nowait(_Left(seat))
        else:
            self._parts.undertaker.leave(seat.slot.id, lambda: self._events.put_nowait(_Left(seat)))

    def _on_stop(self) -> None:
        self._stops += 1
        living = sum(seat.occupant is not None for seat in self._seats)
        tell("stopping", workers=living, request=self._stops)
        self._rollout.cancel()
        for seat in self._seats:
            if seat.wanted:
                self._seats.retire(seat)
            elif self._stops == 2 and seat.occupant is not None:
                seat.occupant.process.signal(signal.SIGTERM)
            if self._stops > 2:
                self._seats.kill(seat, "killed at the third request to stop")

    # Acts

    async def _reconcile(self) -> None:
        now = self._clock.monotonic()
        self._seats.kill_overdue()
        self._kill_the_silent()
        self._rollout.step()
        if not self._stops:
            self._yield_to_twins()
            await self._start_due(now)
        self._seats.release_gone()
        if now >= self._refresh_at:
            self._refresh_at = now + _REFRESH_S
            self._refresh_slots()

    def _refresh_slots(self) -> None:
        try:
            for slot in self._parts.slots.refresh():
                tell("slot-lost", level=logging.ERROR, slot=slot.id, cause="its lock file was removed and retaken")
        except (ConfigError, OSError) as error:  # the workers run without a lock file
            tell("locks-not-refreshed", level=logging.WARNING, cause=error)

    def _kill_the_silent(self) -> None:
        verdicts = self._parts.table.check()
        for seat in self._seats:
            if seat.occupant is None or verdicts.get(seat.occupant.process.worker) is not Verdict.SILENT:
                continue
            if seat.occupant.ran:
                self._seats.kill(seat, f"killed after {self._own.silence_s:g} s of silence")
            else:
                self._seats.kill(seat, f"killed as it was not running {self._own.start_timeout_s:g} s after its start")

    async def _start_due(self, now: float) -> None:
        starting = sum(seat.is_starting(now) for seat in self._seats)
        due = sorted(
            (seat for seat in self._seats if seat.can_start(now)),
            key=lambda seat: seat.vacancy.at if seat.vacancy else now,
        )
        for seat in due[: max(0, self._starts_at_once - starting)]:
            await self._start(seat)

    async def _start(self, seat: Seat) -> None:
        worker, secret = new_worker_id(seat.slot.id, self._chance), f"{self._chance.getrandbits(256):064x}"
        try:
            process = await self._parts.spawn(
                Order(seat.slot, worker, self._parts.twins.supervisor, secret),
                lambda beat: self._events.put_nowait(_Said(seat, worker, beat)),
            )
        except OSError as error:  # out of memory, processes or files: that may pass
            tell("not-spawned", level=logging.ERROR, slot=seat.slot.id, cause=error)
            self._after_crash(seat, self._clock.monotonic())
            return
        occupant = seat.spawned(process, self._clock.monotonic())
        self._parts.table.spawned(worker, secret)
        task = asyncio.get_running_loop().create_task(self._attend(seat, occupant), name=f"yadtq-attend-{worker}")
        self._attending.add(task)
        task.add_done_callback(self._attending.discard)
        tell_of(seat, "spawned")

    async def _attend(self, seat: Seat, occupant: Occupant) -> None:
        code = await occupant.process.ended()
        self._events.put_nowait(_Exited(seat, occupant, code))

    def _add_seat(self, avoid: Collection[str] = ()) -> bool:
        """Whether there is one more."""
        if self._stops:
            return False
        try:
            self._seats.add(avoid)
        except ConfigError as error:
            tell("not-added", level=logging.ERROR, cause=error)
            return False
        return True

    def _yield_to_twins(self) -> None:
        """Leave slots that another supervisor uses as well, if that was started earlier."""
        twins = self._parts.twins
        for seat in self._seats.wanted:
            if (twin := twins.of(seat.slot.id)) is None:
                continue
            yields = twins.may_yield_to(twin) and self._add_seat(twins.taken() | {seat.slot.id})
            if yields or twins.is_news(twin):
                facts = {"slot": seat.slot.id, "twin": twin.worker, "twin_host": twin.host, "twin_pid": twin.pid}
                tell("slot-twin", level=logging.ERROR, **facts, action="yields" if yields else "stays")
            if yields:
                self._seats.retire(seat)

    async def _clear(self) -> None:
        """Always runs at the end: kill remaining workers, certify them, leave the group, give the slots back."""
        self._stops = max(self._stops, 1)
        for seat in self._seats:
            self._seats.kill(seat, "killed at the end of its supervisor")
            if seat.wanted:
                seat.retire(self._clock.monotonic())
        if self._attending:
            await asyncio.wait(self._attending, timeout=_REAP_S)
        while not self._events.empty():
            self._handle(self._events.get_nowait())
        await self._parts.undertaker.finish(_FAREWELL_S)
        self._parts.slots.release_all()
