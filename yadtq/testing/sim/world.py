"""A world of simulated processes: one thread, one seed, virtual time.

The seed decides everything: which process runs next, how long each message takes, what is lost. Time passes only when
all processes wait. The same seed gives the same run, call by call; `digest` proves it.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import signal
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

from yadtq.testing.sim.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from yadtq.testing.sim.loop import SimLoop

__all__ = ["Livelock", "Violation", "World"]

#: The wall clock at the start.
EPOCH = 1_800_000_000
_TICKS_AT_ONE_TIME = 20_000
_DIGEST_EVERY = 500


class Violation(AssertionError):
    """An invariant does not hold."""


class Livelock(Violation):
    """Processes go on and on without time passing: in the real world, a core that burns."""


class World:
    """rng: the only source of chance. now: virtual seconds. history: how many events are kept for reports."""

    def __init__(self, seed: int, *, history: int = 400) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = 0.0
        self.ready: list[SimLoop] = []
        self.events = 0
        self.tasks = 0  # made so far
        self.points = 0
        #: At the n-th point the process that comes by is killed: (n, "before" or "after").
        self.target: int | None = None
        self.hit = ""
        #: Names of processes whose calls are no points.
        self.spared: set[str] = set()
        self.nodes: list[Node] = []
        self.problems: list[str] = []
        self.log: deque[tuple[float, str, str, str]] = deque(maxlen=history)
        self._notes: list[tuple[float, str, str, str]] = []
        self._hash = hashlib.sha256()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = 0
        self._closed = False
        self.on_kill: list[Callable[[Node], None]] = []

    # Time

    def call_at(self, when: float, act: Callable[[], object]) -> None:
        """Something outside of all processes: a message arrives, a fault begins."""
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, act))

    def call_later(self, seconds: float, act: Callable[[], object]) -> None:
        self.call_at(self.now + seconds, act)

    def run(self, until: Callable[[], bool], within_s: float) -> bool:
        """Let processes run until `until` holds; it is asked whenever time passes. False: `within_s` is over."""
        end = self.now + within_s
        ready, timers, chance = self.ready, self._timers, self.rng.random
        while True:
            ticks = 0
            while ready:  # the interleaving
                count = len(ready)
                loop = ready.pop()
                if count > 1:
                    place = int(chance() * count)
                    if place < count - 1:
                        loop, ready[place] = ready[place], loop
                self.events += loop.tick()
                ticks += 1
                if ticks > _TICKS_AT_ONE_TIME + 200 * len(self.nodes):
                    self.fail(f"livelock: {loop.name} runs for ever without time passing", Livelock)
            if self.problems:
                raise Violation(self.problems[0])
            if until():
                return True
            if not timers or timers[0][0] > end:
                self.now = end
                return False
            self.now = max(self.now, timers[0][0])
            while timers and timers[0][0] <= self.now:
                heapq.heappop(timers)[2]()

    def pass_time(self, seconds: float) -> None:
        self.run(lambda: False, seconds)

    # What happened

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Into the digest and the log of the last events. It must be the same in each run: no addresses, no set orders."""
        entry = (self.now, who, what, detail)
        self.log.append(entry)
        self._notes.append(entry)
        if len(self._notes) >= _DIGEST_EVERY:
            self._flush_notes()

    def _flush_notes(self) -> None:
        self._hash.update(repr(self._notes).encode())
        self._notes.clear()

    @property
    def digest(self) -> str:
        """Of all that happened."""
        self._flush_notes()
        return self._hash.hexdigest()

    def fail(self, problem: str, kind: type[Violation] = Violation) -> None:
        """An invariant does not hold: written down, and raised by `run` at the next step of time."""
        self.note("judge", problem)
        self.problems.append(f"{problem} (at {self.now:.3f} s)")
        if kind is Livelock:
            raise kind(self.problems[-1])

    def tail(self, count: int = 60) -> str:
        """The last events, a line each."""
        lines = list(self.log)[-count:]
        return "\n".join(f"  {at:10.4f} {who:12} {what} {detail}".rstrip() for at, who, what, detail in lines)

    def on_loop_error(self, loop: SimLoop, context: dict[str, Any]) -> None:
        """What asyncio would log as an error: never part of a good run."""
        if not self._closed and not loop.dead:
            error = context.get("exception")
            self.fail(f"{loop.name}: {context.get('message')}: {type(error).__name__}: {error}")

    def on_exit(self, loop: SimLoop, error: BaseException) -> None:
        """SystemExit or KeyboardInterrupt came out of a process's loop."""
        node = next(node for node in self.nodes if node.loop is loop)
        self.note(node.name, "exit", repr(error))
        self.kill(node)

    # Processes

    def node(self, name: str, main: Callable[[Node], Coroutine[Any, Any, Any]], **words: Any) -> Node:
        """Start a process. words: see `Node`."""
        node = Node(self, name, **words)
        self.nodes.append(node)
        self.note(name, "start")
        node.start(main)
        return node

    def kill(self, node: Node, by: signal.Signals = signal.SIGKILL) -> None:
        """A death without a last word. by: SIGKILL comes from outside, others a process does to itself."""
        if node.alive:
            self.note(node.name, "killed")
            node.killed_at, node.killed_by = self.now, by
            node.loop.kill()
            for hear in self.on_kill:
                hear(node)

    def point(self, node: Node, what: str) -> bool:
        """A numbered place in a run: before and after each call to a server. True: the process is dead now."""
        if node.name in self.spared:
            return False
        self.points += 1
        if self.points == self.target:
            self.hit = f"{what} by {node.name} at {self.now:.3f} s"
            self.kill(node)
            return True
        return False

    def close(self) -> None:
        """Break off what is left, so that nothing of this world runs or is reported afterwards."""
        self._closed = True
        self._timers.clear()
        self.ready.clear()
        for node in self.nodes:
            node.loop.dead = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that have never begun
            for node in self.nodes:
                node.loop.bury()
