"""Keeps the wanted number of workers alive.

One loop acts; everything else only puts events on its queue: signals as intents, ends of processes and lines from their
pipes as facts. After each event, and a few times a second, the loop compares what is wanted with what lives. So there
is no moment in which two parts of the supervisor disagree about a worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import anyio

from yadtq.errors import ConfigError
from yadtq.runtime.clock import SystemClock
from yadtq.supervisor.events import tell
from yadtq.supervisor.process import Beat, WorkerProcess, describe_exit
from yadtq.supervisor.respawn import GiveUp, RespawnPolicy
from yadtq.supervisor.rollout import Rollout
from yadtq.supervisor.seat import Seat
from yadtq.supervisor.undertaker import new_worker_id
from yadtq.supervisor.watch import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.runtime.clock import Clock
    from yadtq.settings import SupervisorSettings
    from yadtq.supervisor.slots import SlotLocks
    from yadtq.supervisor.undertaker import Undertaker
    from yadtq.supervisor.watch import LivenessTable, TopicWatch

__all__ = ["Intent", "Supervisor"]

#: Exit status of a worker whose configuration is wrong: another process would end the same way.
MISCONFIGURED = 2
_TICK_S = 0.25
_REFRESH_S = 60.0
_REAP_S = 5.0
_FAREWELL_S = 5.0


class Intent(Enum):
    """What signals ask for."""

    STOP = "stop"  # a second time: workers cancel their tasks; a third time: they are killed
    RESTART = "restart"  # one worker after another
    MORE = "more"
    FEWER = "fewer"


class _Exited(NamedTuple):
    seat: Seat
    process: WorkerProcess
    code: int


class _Said(NamedTuple):
    seat: Seat
    worker: str
    beat: Beat


class _Left(NamedTuple):
    seat: Seat


_Event = Intent | _Exited | _Said | _Left


class Supervisor:
    """`await run()` once; `ask(intent)` at any time."""

    def __init__(
        self,
        *,
        command: Sequence[str],
        own: SupervisorSettings,
        slots: SlotLocks,
        table: LivenessTable,
        undertaker: Undertaker,
        watch: TopicWatch | None = None,
        policy: RespawnPolicy | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """command: starts one worker. watch: feeds `table` from the heartbeat topic."""
        self._command, self._own, self._slots = list(command), own, slots
        self._table, self._undertaker, self._watch = table, undertaker, watch
        self._policy = policy or RespawnPolicy.from_settings(own)
        self._clock = clock or SystemClock()
        self._chance = chance or random.SystemRandom()
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._seats: list[Seat] = []
        self._attending: set[asyncio.Task[None]] = set()
        self._rollout = Rollout(self._renew, self._on_restart_aborted)
        self._stops = 0
        self._refresh_at = 0.0
        # Often enough not to take our own patience for a freeze.
        self._tick_s = min(_TICK_S, table.gap_s / 3)
        # More starts at once only take the processor from each other, and from workers that work.
        self._starts_at_once = max(4, 2 * (os.cpu_count() or 1))

    def ask(self, intent: Intent) -> None:
        """Safe in a signal handler of the loop."""
        self._events.put_nowait(intent)

    @property
    def workers(self) -> dict[str, str | None]:
        """The id of the living worker of each slot."""
        return {seat.slot.id: seat.worker for seat in self._seats}

    async def run(self) -> int:
        """Returns the exit status: 0 if asked to end, 2 if no worker accepts its configuration, 1 if all were given up.

        Whatever ends it, also an error or a cancellation, no process of any worker is left.
        """
        watch = asyncio.get_running_loop().create_task(self._watch.run()) if self._watch else None
        try:
            for _ in range(self._own.workers):
                self._add_seat()
            while (status := self._status()) is None:
                if watch is not None and watch.done():
                    watch.result()  # it never ends by itself: this raises
                await self._reconcile()
                await self._next()
            tell("ended", status=status)
            return status
        finally:
            with anyio.CancelScope(shield=True):
                await self._clear()
                if watch is not None:
                    watch.cancel()
                    await asyncio.gather(watch, return_exceptions=True)

    def _status(self) -> int | None:
        if any(seat.process for seat in self._seats):
            return None
        if self._stops:
            return 0
        if self._seats and all(seat.ended for seat in self._seats):
            return MISCONFIGURED if all(seat.misconfigured for seat in self._seats) else 1
        return None

    # Events

    async def _next(self) -> None:
        """Handle what has come, or wait for it until something is due."""
        try:
            async with asyncio.timeout(self._patience()):
                self._handle(await self._events.get())
        except TimeoutError:
            return
        while not self._events.empty():
            self._handle(self._events.get_nowait())

    def _patience(self) -> float:
        now = self._clock.monotonic()
        dues = [seat.due - now for seat in self._seats if seat.due is not None and not seat.process]
        return max(0.0, min([self._tick_s, *(due for due in dues if due > 0)]))

    def _handle(self, event: _Event) -> None:
        match event:
            case _Exited(seat, process, code):
                self._on_exit(seat, process, code)
            case _Said(seat, worker, beat):
                self._on_beat(seat, worker, beat)
            case _Left(seat):
                seat.leaving = False
            case Intent.STOP:
                self._on_stop()
            case Intent.RESTART:
                tell("restarting", workers=len(self._seats))
                self._rollout.begin(self._seats)
            case Intent.MORE:
                try:
                    self._add_seat()
                except ConfigError as error:
                    tell("not-added", level=logging.ERROR, cause=error)
            case Intent.FEWER:
                self._remove_seat()

    def _on_beat(self, seat: Seat, worker: str, beat: Beat) -> None:
        if seat.worker != worker:  # a last line of the one before
            return
        self._table.piped(worker, beat.phase)
        seat.heard, seat.last_seq = True, beat.seq
        seat.last_words = beat.error or seat.last_words
        if beat.phase == "running" and not seat.ready:
            seat.ready = True
            now = self._clock.monotonic()
            since_death_s = now - seat.died_at if seat.died_at is not None else None
            self._tell(seat, "ready", after_s=now - seat.spawned_at, since_death_s=since_death_s)

    def _on_exit(self, seat: Seat, process: WorkerProcess, code: int) -> None:
        now = self._clock.monotonic()
        self._table.removed(process.worker)
        expected = seat.asked and code == 0
        self._tell(seat, "stopped" if expected else "died", cause=seat.killed or describe_exit(code))
        # Always: one that ended in order holds no lease, unless Redis was away, and then this ends it.
        self._undertaker.certify(process.worker)
        if not expected:
            self._undertaker.announce(process.worker, seat.slot.id, process.pid, seat.last_seq + 1)
        seat.empty(now)
        if self._stops or not seat.wanted:
            self._dismiss(seat)
        elif seat.asked:
            seat.due = now
        elif code == MISCONFIGURED and not seat.ready:
            seat.misconfigured = True
            self._give_up(seat, seat.last_words or "it refuses its configuration (exit 2); its last words are above")
        else:
            self._after_crash(seat, now)

    def _after_crash(self, seat: Seat, now: float) -> None:
        # While Kafka is away every worker may fail; that is no reason to have none when it is back.
        seat.history.record(now, charged=self._table.visible())
        match self._policy.decide(seat.history, now):
            case GiveUp(crashes, window_s):
                self._give_up(seat, f"{crashes} crashes within {window_s:g} s")
            case decision:
                seat.due = now + decision.after_s
                tell("respawning", slot=seat.slot.id, after_s=decision.after_s)

    def _give_up(self, seat: Seat, cause: str) -> None:
        seat.ended = cause
        tell("gave-up", level=logging.ERROR, slot=seat.slot.id, cause=cause)
        self._leave(seat)

    def _on_restart_aborted(self, seat: Seat) -> None:
        tell("restart-aborted", level=logging.ERROR, slot=seat.slot.id, cause=seat.ended)

    def _on_stop(self) -> None:
        self._stops += 1
        living = [seat for seat in self._seats if seat.process]
        tell("stopping", workers=len(living), request=self._stops)
        self._rollout.cancel()
        for seat in self._seats:
            if seat.process is None:
                self._dismiss(seat)
            elif self._stops > 2:
                self._kill(seat, "killed at the third request to stop")
            elif self._stops == 2:
                seat.process.signal(signal.SIGTERM)
            elif not seat.asked:  # a second SIGTERM would be the order to cancel tasks
                self._ask_to_end(seat)

    # Acts

    async def _reconcile(self) -> None:
        now = self._clock.monotonic()
        for seat in self._seats:
            if seat.process is not None and seat.kill_at is not None and now >= seat.kill_at:
                self._kill(seat, f"killed after {self._own.grace_s:g} s of grace")
        self._kill_the_silent()
        self._rollout.step()
        if not self._stops:
            await self._start_due(now)
        for seat in [seat for seat in self._seats if seat.gone]:
            self._seats.remove(seat)
            self._slots.release(seat.slot)
        if now >= self._refresh_at:
            self._refresh_at = now + _REFRESH_S
            self._refresh_locks()

    def _refresh_locks(self) -> None:
        try:
            for slot in self._slots.refresh():
                tell("slot-lost", level=logging.ERROR, slot=slot.id, cause="its lock file was removed and retaken")
        except (ConfigError, OSError) as error:  # the workers need no lock file to work
            tell("locks-not-refreshed", level=logging.WARNING, cause=error)

    def _kill_the_silent(self) -> None:
        verdicts = self._table.check()
        for seat in self._seats:
            if seat.worker is not None and verdicts.get(seat.worker) is Verdict.SILENT:
                if seat.ready:
                    self._kill(seat, f"killed after {self._own.silence_s:g} s of silence")
                else:
                    self._kill(seat, f"killed as it was not running {self._own.start_timeout_s:g} s after its start")

    async def _start_due(self, now: float) -> None:
        starting = sum(seat.is_starting(now) for seat in self._seats)
        due = sorted((seat for seat in self._seats if seat.can_start(now)), key=lambda seat: seat.due or 0.0)
        for seat in due[: max(0, self._starts_at_once - starting)]:
            await self._start(seat)

    async def _start(self, seat: Seat) -> None:
        worker = new_worker_id(seat.slot.id, self._chance)
        try:
            process = await WorkerProcess.spawn(
                self._command, seat.slot, worker, lambda beat: self._events.put_nowait(_Said(seat, worker, beat))
            )
        except OSError as error:  # out of memory, processes or files: that may pass
            tell("not-spawned", level=logging.ERROR, slot=seat.slot.id, cause=error)
            self._after_crash(seat, self._clock.monotonic())
            return
        seat.take(process, self._clock.monotonic())
        self._table.spawned(worker)
        task = asyncio.get_running_loop().create_task(self._attend(seat, process), name=f"yadtq-attend-{worker}")
        self._attending.add(task)
        task.add_done_callback(self._attending.discard)
        self._tell(seat, "spawned")

    async def _attend(self, seat: Seat, process: WorkerProcess) -> None:
        code = await process.ended()
        self._events.put_nowait(_Exited(seat, process, code))

    def _add_seat(self) -> None:
        if not self._stops:
            seat = Seat(self._slots.take(), self._policy.history(), due=self._clock.monotonic())
            self._seats.append(seat)

    def _remove_seat(self) -> None:
        wanted = [seat for seat in self._seats if seat.wanted]
        if not wanted or self._stops:
            return
        # One that does no work rather than one that does.
        seat = next((seat for seat in reversed(wanted) if seat.ended), wanted[-1])
        tell("removing", slot=seat.slot.id)
        seat.wanted = False
        if seat.process is None:
            self._dismiss(seat)
        elif not seat.asked:
            self._ask_to_end(seat)

    def _renew(self, seat: Seat) -> None:
        if seat.process is None:
            seat.revive(self._clock.monotonic())
        elif not seat.asked:
            self._ask_to_end(seat)

    def _ask_to_end(self, seat: Seat) -> None:
        if seat.process is not None:
            seat.kill_at = self._clock.monotonic() + self._own.grace_s
            seat.process.signal(signal.SIGTERM)

    def _kill(self, seat: Seat, cause: str) -> None:
        if seat.process is not None and seat.killed is None:
            seat.killed = cause
            self._tell(seat, "killing", cause=cause)
            seat.process.kill()

    def _dismiss(self, seat: Seat) -> None:
        """An empty seat that stays empty."""
        seat.wanted, seat.due = False, None
        self._leave(seat)

    def _leave(self, seat: Seat) -> None:
        if not seat.left:
            seat.left = seat.leaving = True
            self._undertaker.leave(seat.slot.id, lambda: self._events.put_nowait(_Left(seat)))

    async def _clear(self) -> None:
        """The end, whatever its cause: kill what still lives, certify it, leave the group, give the slots back."""
        self._stops = max(self._stops, 1)
        for seat in self._seats:
            self._kill(seat, "killed at the end of its supervisor")
        if self._attending:
            await asyncio.wait(self._attending, timeout=_REAP_S)
        while not self._events.empty():
            self._handle(self._events.get_nowait())
        for seat in self._seats:
            if seat.process is None and seat.wanted:
                self._dismiss(seat)
        await self._undertaker.finish(_FAREWELL_S)
        self._slots.release_all()

    def _tell(self, seat: Seat, event: str, **facts: object) -> None:
        if seat.process is not None:
            level = logging.WARNING if event in ("died", "killing") else logging.INFO
            names = {"slot": seat.slot.id, "worker": seat.process.worker, "pid": seat.process.pid}
            tell(event, level=level, **names, **facts)
