"""Redis, simulated: the store's families in memory behind each process's link, with the ways in which data get lost.

A question is one step of the double, as it is one script of the server. Messages of pub/sub are lost while a link is cut
or the server is away; the listener is told of the gap when it is connected again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service
from yadtq.store.deaths.memory import CONTROL
from yadtq.store.memory import MemoryStore
from yadtq.store.tasks.memory import ENDS
from yadtq.testing.sim.net import Link, Server

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.settings import Settings
    from yadtq.store.memory import Saved
    from yadtq.store.verbs import DataSet, News
    from yadtq.testing.sim.node import SimClock
    from yadtq.testing.sim.world import World

__all__ = ["SimRedis", "SimStore"]

_RECONNECT_S = 0.5
_NOTICED_S = 5.0
#: Which argument of a verb says what it is about, if it is not the last one.
_ITEMS_AT = {"register": 0, "claim": 1, "fetch_large": 0}


class SimRedis(Server):
    """watch: told of each verb before and after it: (verb, arguments) → something to call with the answer."""

    def __init__(self, world: World, clock: SimClock, chance: random.Random, settings: Settings) -> None:
        super().__init__("redis", world)
        self.settings = settings
        self.data = MemoryStore(clock, chance, settings)
        self.watch: Callable[[str, tuple[Any, ...]], Callable[[Any], None] | None] = lambda verb, args: None
        self.on_loss: list[Callable[[], None]] = []
        self.lost_at: list[float] = []
        #: Listeners to disconnect when the server goes away.
        self.listeners: dict[_Listening, None] = {}

    def flush(self) -> None:
        """Lose all data, as a restart without persistence does."""
        self.world.note("redis", "lost its data")
        self.data.flush()
        self._lost()

    def snapshot(self) -> Saved:
        """Of all data, for `restore`."""
        return self.data.snapshot()

    def restore(self, snapshot: Saved) -> None:
        """Back to an older state, as a failover to a replica that lags."""
        self.world.note("redis", "went back in time")
        self.data.restore(snapshot)
        self._lost()

    def _lost(self) -> None:
        self.lost_at.append(self.world.now)
        for hear in self.on_loss:
            hear()
        self.disconnect()

    def stop_answering(self) -> None:
        self.down = True
        self.disconnect()

    def disconnect(self) -> None:
        for listener in list(self.listeners):
            listener.disconnect()

    def answer(self, family: str, verb: str, args: tuple[Any, ...], words: dict[str, Any]) -> Any:
        """One verb, in one step."""
        after = self.watch(verb, args)
        found = step(getattr(getattr(self.data, family), verb)(*args, **words))
        if after is not None:
            after(found)
        return found


def step(verb: Coroutine[Any, Any, Any]) -> Any:
    """What a verb of a double returns: it waits for nothing but its turn."""
    try:
        while True:
            verb.send(None)
    except StopIteration as end:
        return end.value


class SimStore:
    """`verbs.Store` of one process. Its families are those of the double."""

    def __init__(self, redis: SimRedis, link: Link, settings: Settings) -> None:
        self._redis = redis
        self._link = link
        self._settings = settings
        for name in redis.data.families:
            setattr(self, name, _Family(self, name))

    async def ask(self, verb: str, do: Callable[[], Any], timeout_s: float | None = None, detail: str = "") -> Any:
        return await self._link.call(
            verb, do, timeout_s=timeout_s or self._settings.redis_timeout_s, error=StoreUnavailable, detail=detail
        )

    async def start(self) -> None:
        await self.ask("ping", lambda: None, self._settings.connect_timeout_s)

    async def aclose(self) -> None:
        await asyncio.sleep(0)

    async def data_set(self) -> DataSet:
        return cast("DataSet", await self.ask("data_set", lambda: step(self._redis.data.data_set())))

    def hear_control(self, on_message: Callable[[bytes], None], on_gap: Callable[[], None]) -> Service:
        channel = self._redis.data.server.channels.setdefault(CONTROL, [])
        return _Listening(self._redis, self._link, channel, on_message=on_message, on_gap=on_gap)

    def hear_ends(self, channel: str, on_news: Callable[[Sequence[News]], None], on_gap: Callable[[], None]) -> Service:
        ends = self._redis.data.server.channels.setdefault(ENDS + channel, [])
        return _Listening(self._redis, self._link, ends, on_message=on_news, on_gap=on_gap)


class _Family:
    """A folder of verbs: each a question over the link."""

    def __init__(self, store: SimStore, name: str) -> None:
        self._store = store
        self._name = name

    def __getattr__(self, verb: str) -> Any:
        store, name = self._store, self._name
        redis = store._redis

        async def call(*args: Any, **words: Any) -> Any:
            return await store.ask(verb, partial(redis.answer, name, verb, args, words), detail=_words(verb, args))

        setattr(self, verb, call)
        return call


def _words(verb: str, args: tuple[Any, ...]) -> str:
    """What a call is about, for the log of events."""
    items = args[_ITEMS_AT.get(verb, -1)]
    if isinstance(items, str):
        return items
    if len(items) > 8:
        return f"{len(items)} tasks"
    return " ".join(_word(item) for item in items)


def _word(item: Any) -> str:
    if isinstance(item, str):
        return item
    task_id = str(item[0])
    status = getattr(item, "status", None)
    return f"{task_id}={status.code}{item.attempt}" if status is not None else task_id


class _Listening(Service):
    """A subscription that notices when it has missed something."""

    name = "subscription"

    def __init__(
        self,
        redis: SimRedis,
        link: Link,
        channel: list[Any],
        *,
        on_message: Callable[[Any], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._link = link
        self._channel = channel
        self._on_message = on_message
        self._on_gap = on_gap
        self._stopped = asyncio.Event()
        self._lost = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        started = False
        while not self._stopped.is_set():
            if await self._subscribe():
                self._on_gap()
            if not started:
                started = True
                task_status.started()
            await self._until_lost()
            with anyio.move_on_after(_RECONNECT_S):
                await self._stopped.wait()
        self._forget()

    async def _subscribe(self) -> bool:
        self._lost.clear()

        def subscribe() -> None:
            self._redis.listeners[self] = None
            if self._tell not in self._channel:
                self._channel.append(self._tell)

        try:
            await self._link.call(
                "subscribe", subscribe, timeout_s=self._redis.settings.redis_timeout_s, error=StoreUnavailable
            )
        except StoreUnavailable:
            self._lost.set()
            return False
        return True

    async def _until_lost(self) -> None:
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await self._stopped.wait()
                group.cancel_scope.cancel()

            group.start_soon(stop)
            await self._lost.wait()
            group.cancel_scope.cancel()

    def _forget(self) -> None:
        self._redis.listeners.pop(self, None)
        if self._tell in self._channel:
            self._channel.remove(self._tell)

    def disconnect(self) -> None:
        """The server's side is gone: noticed at once, or only by a ping that nobody answers."""
        world = self._redis.world
        self._forget()
        world.call_later(_NOTICED_S * world.rng.random() if world.rng.random() < 0.3 else 0.001, self._notice)

    def _notice(self) -> None:
        if self._link.node.alive:
            self._lost.set()

    def _tell(self, message: Any) -> None:
        link, world = self._link, self._redis.world
        if not link.node.alive:
            self._forget()
        elif link.cut_in > world.now:
            self.disconnect()
        else:
            world.call_later(link.trip(), partial(self._arrive, message))

    def _arrive(self, message: Any) -> None:
        if self._link.node.alive:
            self._link.node.loop.call_soon(self._on_message, message)
