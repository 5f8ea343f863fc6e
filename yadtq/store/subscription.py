"""One pub/sub connection that knows when it has missed something.

Redis's pub/sub is at most once, a reconnect is silent, and a frozen server is never noticed (redis/redis-py#2417). So
every (re)subscription is reported as a gap, after which the owner looks at the truth once; and we ping ourselves: no
answer within the deadline, and the connection is made anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
from redis.exceptions import RedisError

from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

__all__ = ["Subscription"]

log = logging.getLogger("yadtq.store")

_PING_EVERY_S = 5.0
_RETRY_S = 0.5


class Subscription(Service):
    """A service that hands every message of `channel` to `on_message`, and calls `on_gap` after each (re)subscription.

    Neither callback may wait. Started means subscribed, or, if Redis is away, that attempts go on.
    """

    name = "subscription"

    def __init__(
        self,
        redis: Redis,
        channel: str,
        on_message: Callable[[bytes], None],
        on_gap: Callable[[], None],
        timeout_s: float,
    ) -> None:
        self._redis = redis
        self._channel = channel
        self._on_message = on_message
        self._on_gap = on_gap
        self._timeout_s = timeout_s
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
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
        while not self._stopped.is_set():
            pubsub = self._redis.pubsub()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await pubsub.subscribe(self._channel)
                await self._listen(pubsub, ready)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("listening on %s: %s; trying again", self._channel, str(error) or type(error).__name__)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    try:
                        await pubsub.aclose()  # type: ignore[no-untyped-call]
                    except (RedisError, OSError) as error:
                        log.debug("closing a broken subscription: %s", error)
            ready()  # Redis may be away at the start: the owner must not wait for it
            await anyio.sleep(_RETRY_S)

    async def _listen(self, pubsub: PubSub, ready: Callable[[], None]) -> None:
        pinged = False
        while True:
            # A silent interval is answered with a ping, and a second one in a row ends the connection.
            message: dict[str, Any] | None = await pubsub.get_message(timeout=_PING_EVERY_S)
            if message is None:
                if pinged:
                    raise TimeoutError(f"no answer to a ping within {_PING_EVERY_S:g} s")
                async with asyncio.timeout(self._timeout_s):
                    await pubsub.ping()
                pinged = True
                continue
            pinged = False
            if message["type"] == "message":
                self._on_message(message["data"])
            elif message["type"] == "subscribe":
                self._on_gap()
                ready()
