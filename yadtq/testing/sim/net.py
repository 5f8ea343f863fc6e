"""The way between a process and a server: each port call goes through a link, which may be slow, lossy, or cut.

A question is answered in one step at the server's time, even if the asker is dead or has given up by then. What comes
back late finds nobody. Both ends of each call are numbered points, at which a sweep kills the asker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from yadtq.testing.sim.node import Node
    from yadtq.testing.sim.world import World

__all__ = ["Later", "Link", "Server", "Weather"]

T = TypeVar("T")


@dataclass
class Weather:
    """What the network is like between all processes and one server. Rates: of all calls.

    trip_s: the longest ordinary way. lose_question, lose_answer: the connection breaks there; the client library asks
    again in half of the cases (so that a lost answer is a doubled question). slow: takes up to `slow_s`. double: an
    append arrives once more later, from a producer that was given up.
    """

    trip_s: float = 0.002
    lose_question: float = 0.0
    lose_answer: float = 0.0
    slow: float = 0.0
    slow_s: float = 1.0
    double: float = 0.0

    @property
    def bad(self) -> float:
        return self.lose_question + self.lose_answer + self.slow


@dataclass
class Server:
    """down: refuses all. frozen_until: answers nothing till then, and then all that came meanwhile."""

    name: str
    world: World
    weather: Weather = field(default_factory=Weather)
    down: bool = False
    frozen_until: float = 0.0

    def calm(self) -> None:
        """The end of all troubles."""
        self.down = False
        self.frozen_until = 0.0
        self.weather = Weather(self.weather.trip_s)


class Later(Exception):
    """Raised by a server's answer: ask again at `at`."""

    def __init__(self, at: float) -> None:
        self.at = at


class Link:
    """One process's connection to one server. cut_out, cut_in: until when questions, or answers, are lost."""

    def __init__(self, node: Node, server: Server) -> None:
        self.node = node
        self.server = server
        self.cut_out = 0.0
        self.cut_in = 0.0
        self._world = server.world
        self._chance = server.world.rng.random

    @property
    def up(self) -> bool:
        """Whether the process can be heard of at the server, and the server at the process."""
        now = self._world.now
        return self.cut_out <= now and self.cut_in <= now and not self.node.loop.dead and not self.node.frozen

    def cut(self, seconds: float, way: str = "both") -> None:
        """way: "out", "in" or "both"."""
        until = self._world.now + seconds
        self._world.note(self.node.name, f"cut from {self.server.name}", f"{way} {seconds:.3f}")
        if way != "in":
            self.cut_out = max(self.cut_out, until)
        if way != "out":
            self.cut_in = max(self.cut_in, until)

    def trip(self) -> float:
        """How long a message takes now."""
        weather = self.server.weather
        if weather.slow and self._chance() < weather.slow:
            return weather.slow_s * self._chance()
        return weather.trip_s * (0.1 + 0.9 * self._chance())

    async def call(
        self, verb: str, do: Callable[[], T], *, timeout_s: float, error: Callable[[str], Exception], detail: str = ""
    ) -> T:
        """Ask the server to `do` something. Raises `error(reason)` after `timeout_s` at the latest."""
        answer: T = await _Call(self, verb, do, deadline=self._world.now + timeout_s, error=error, detail=detail).future
        return answer


class _Call:
    """One question on its way."""

    __slots__ = ("_deadline", "_detail", "_do", "_error", "_link", "_verb", "_world", "future")

    def __init__(
        self,
        link: Link,
        verb: str,
        do: Callable[[], Any],
        *,
        deadline: float,
        error: Callable[[str], Exception],
        detail: str,
    ) -> None:
        self._link = link
        self._verb = verb
        self._do = do
        self._deadline = deadline
        self._error = error
        self._detail = detail
        self._world = link.server.world
        self.future: asyncio.Future[Any] = link.node.loop.create_future()
        world = self._world
        if world.point(link.node, f"before {verb}"):
            return  # the asker is dead: its future stays open for ever
        self._ask()

    def _ask(self) -> None:
        link, world = self._link, self._world
        weather = link.server.weather
        lost = link.cut_out > world.now or (weather.lose_question and link._chance() < weather.lose_question)
        if lost:
            self._broken("question lost")
        else:
            world.call_at(world.now + link.trip(), self._serve)

    def _broken(self, why: str) -> None:
        """A connection breaks: noticed soon or only by the deadline; the client library may ask again."""
        world, chance = self._world, self._link._chance
        if self.future.done():
            return
        kind = chance()
        if kind < 0.5 and (again := world.now + 0.02 + 0.5 * chance()) < self._deadline:
            world.call_at(again, self._again)
        elif kind < 0.75:
            world.call_at(min(self._deadline, world.now + 0.001 + 0.05 * chance()), lambda: self._fail(why))
        else:
            world.call_at(self._deadline, lambda: self._fail(f"{why}; no answer in time"))

    def _again(self) -> None:
        if self.future.done() or self._link.node.loop.dead:
            return
        if self._link.node.frozen:  # it can't ask; when it can, its deadline may be over
            self._world.call_at(self._link.node.loop.frozen_until, self._again)
        elif self._world.now >= self._deadline:
            self._fail("no answer in time")
        else:
            self._ask()

    def _serve(self) -> None:
        link, world, server = self._link, self._world, self._link.server
        if server.frozen_until > world.now:
            world.call_at(server.frozen_until + link.trip(), self._serve)
            self._expire_at_deadline(server.frozen_until)
            return
        if server.down:
            self._broken("connection refused")
            return
        try:
            answer, failure = self._do(), None
        except Later as later:
            world.call_at(later.at, self._serve)
            self._expire_at_deadline(later.at)
            return
        except Exception as problem:  # the server's own answer: it travels as any other
            answer, failure = None, problem
        world.note(link.node.name, self._verb, self._detail)
        if self.future.done():  # given up meanwhile
            return
        if world.point(link.node, f"after {self._verb}"):
            return
        weather = server.weather
        if link.cut_in > world.now or (weather.lose_answer and link._chance() < weather.lose_answer):
            self._broken("answer lost")
            return
        at = world.now + link.trip()
        if at > self._deadline:
            self._expire_at_deadline(inf)
        elif failure is not None:
            world.call_at(at, lambda: self._raise(failure))
        else:
            world.call_at(at, lambda: self._deliver(answer))

    def _expire_at_deadline(self, answered_at: float) -> None:
        if answered_at > self._deadline:
            self._world.call_at(self._deadline, lambda: self._fail("no answer in time"))

    def _deliver(self, answer: Any) -> None:
        if not self.future.done() and not self._link.node.loop.dead:
            self.future.set_result(answer)

    def _raise(self, failure: Exception) -> None:
        if not self.future.done() and not self._link.node.loop.dead:
            self.future.set_exception(failure)

    def _fail(self, why: str) -> None:
        self._raise(self._error(f"{self._link.server.name}: {why}"))
