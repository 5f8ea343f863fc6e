"""One pub/sub connection that knows when it has missed something.

Redis's pub/sub is at most once, redis-py reconnects silently, and never notices a frozen server (redis/redis-py#2417).
So every (re)subscription is reported as a gap, after which the owner reads the current state once; and we send pings:
without an answer within the deadline the connection is made again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio

from yadtq.runtime.service import Service
from yadtq.shown import shown, shown_value
from yadtq.store.answers import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started
    from redis.asyncio.client import PubSub

    from yadtq.store.link import Link

__all__ = ["Subscription"]

log = logging.getLogger("yadtq.store")

_PING_EVERY_S = 5.0
_RETRY_S = 0.5
_CLOSE_S = 1.0


class Subscription(Service):
    """A service that hands every message of `channel` to `on_message`, and calls `on_gap` after each (re)subscription.

    Neither callback may wait. Started means subscribed, or, if Redis is away, that attempts continue.
    """

    name = "subscription"

    def __init__(
        self, link: Link, channel: str, on_message: Callable[[bytes], None], on_gap: Callable[[], None]
    ) -> None:
        self._link = link
        self._channel = channel
        self._on_message = on_message
        self._on_gap = on_gap
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        started = False

        def ready() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started()

        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_listening, ready)
            await self._stopped.wait()
            ready()
            group.cancel_scope.cancel()

    async def _keep_listening(self, ready: Callable[[], None]) -> None:
        what = f"listening on {self._channel}"
        while not self._stopped.is_set():
            pubsub = self._link.redis.pubsub()
            try:
                async with asyncio.timeout(self._link.timeout_s):
                    await pubsub.subscribe(self._channel)
                await self._listen(pubsub, ready)
            except Exception as error:  # unexpected bytes from the server can make a client library raise anything
                self._link.outages.failed(unavailable(error, what, self._link.timeout_s))
            finally:
                await self._close(pubsub)
            ready()  # Redis may be away at the start: the owner must not wait for it
            await anyio.sleep(_RETRY_S)

    async def _listen(self, pubsub: PubSub, ready: Callable[[], None]) -> None:
        """Returns when the connection may be to a server that is not in charge any more."""
        generation = self._link.generation
        pinged = False
        while generation == self._link.generation:
            # A silent interval is answered with a ping, and a second one in a row ends the connection.
            message: dict[str, Any] | None = await pubsub.get_message(timeout=_PING_EVERY_S)
            if message is None:
                if pinged:
                    raise TimeoutError
                async with asyncio.timeout(self._link.timeout_s):
                    await pubsub.ping()
                pinged = True
                continue
            pinged = False
            if message["type"] == "message":
                self._tell(message["data"])
            elif message["type"] == "subscribe":
                self._link.answered()
                self._on_gap()
                ready()

    def _tell(self, message: object) -> None:
        """Messages that can't be understood are ignored: any client may publish, and a message is only a hint."""
        try:
            if type(message) is bytes:
                self._on_message(message)
        except Exception:  # a defect of ours must not end the subscription for all other messages
            log.exception("a message on %s was not understood: %s", self._channel, shown_value(message, 200))

    async def _close(self, pubsub: PubSub) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
            try:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
            except Exception as error:  # of a connection that is broken anyway
                log.debug("closing a broken subscription: %s", shown(error))
