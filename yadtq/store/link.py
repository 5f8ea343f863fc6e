"""The connections to one Redis: a deadline for each call, one typed error for each failure, and the log of outages.

After an error answer no connection is kept: behind a fixed name there may be another server now (a failover), and a
connection to the demoted one would keep answering READONLY, or old data.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from yadtq.runtime.outages import OutageLog
from yadtq.store.answers import Misread, unavailable
from yadtq.store.connecting import DRIVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    from yadtq.errors import StoreUnavailable
    from yadtq.runtime.clock import Clock

__all__ = ["Link"]

log = logging.getLogger("yadtq.store")
T = TypeVar("T")

_CLOSE_S = 1.0


class Link:
    """One a process. Besides redis-py's pool it keeps connections of its own, for calls that every task waits for.

    Those avoid the overhead of the pool (checks and locks, 50 us): a connection is taken from a list, and the one
    deadline around the call replaces all of redis-py's timeouts.
    """

    def __init__(self, redis: Redis, timeout_s: float, clock: Clock) -> None:
        self.redis = redis
        self.timeout_s = timeout_s
        self.outages = OutageLog(log, clock, "Redis")
        #: Counts how often all connections were dropped; one of an earlier generation is not used again.
        self.generation = 0
        self._idle: list[AbstractConnection] = []

    async def within(self, call: Awaitable[T], what: str, *, seconds: float | None = None) -> T:
        """The answer of `call`. Raises `StoreUnavailable` after `seconds`, and for every error but NOSCRIPT.

        seconds: `timeout_s` unless given.
        """
        seconds = self.timeout_s if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                answer = await call
        except NoScriptError:
            raise
        except Exception as error:  # unexpected bytes from the server can make a client library raise anything
            raise await self.failed(error, what, seconds) from error
        self.answered()
        return answer

    def answered(self) -> None:
        """Note that Redis serves."""
        if self.outages.open:
            self.outages.answered()

    async def failed(self, error: Exception, what: str, seconds: float = 0.0) -> StoreUnavailable:
        """Note a failure of the call `what`, and return what to raise for it."""
        outage = unavailable(error, what, seconds)
        self.outages.failed(outage)
        if isinstance(error, ResponseError | Misread):
            await self.drop()
        return outage

    async def send(self, packed: bytes, read: Callable[[Any], T]) -> T:
        """One command on a connection of our own. read: from the answer; raises `Misread`. To be used in `within`."""
        try:
            return read(await self._round_trip(packed))
        except RedisConnectionError:
            # A server that was restarted has closed our idle connections: one retry on a new connection shows whether
            # it is up.
            await self._close_idle()
            return read(await self._round_trip(packed))

    async def send_all(self, packed: bytes, count: int) -> list[Any]:
        """Several commands in one packet; error answers are among the answers. To be used in `within`."""
        connection = self._new_connection()
        try:
            await connection.send_packed_command(packed, check_health=False)
            answers: list[Any] = []
            for _ in range(count):
                try:
                    answers.append(await connection.read_response(timeout=math.inf))
                except ResponseError as error:
                    answers.append(error)
            return answers
        finally:
            await connection.disconnect(nowait=True)

    async def _round_trip(self, packed: bytes) -> Any:
        connection = self._idle.pop() if self._idle else self._new_connection()
        generation = self.generation
        try:
            await connection.send_packed_command(packed, check_health=False)
            answer = await connection.read_response(timeout=math.inf)
        except NoScriptError:
            self._idle.append(connection)
            raise
        except BaseException:
            # Broken, or cancelled between request and answer, or a server that can't serve: not to be used again.
            await connection.disconnect(nowait=True)
            raise
        if generation == self.generation:
            self._idle.append(connection)
        else:
            await connection.disconnect(nowait=True)
        return answer

    def _new_connection(self) -> AbstractConnection:
        pool = self.redis.connection_pool
        return pool.connection_class(**{"driver_info": DRIVER, **pool.connection_kwargs, "socket_timeout": None})

    async def drop(self) -> None:
        """Close all connections, those in use after their answer. Later calls open new ones."""
        self.generation += 1
        await self._close_idle()
        pool = self.redis.connection_pool
        try:
            async with asyncio.timeout(_CLOSE_S):
                await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
                await pool.disconnect(inuse_connections=False)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("closing connections to Redis: %s", error)

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close the connections, and the client they come from."""
        await self._close_idle()
        await self.redis.aclose()
