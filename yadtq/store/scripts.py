"""The connection to Redis, and the Lua verbs on it: EVALSHA with a deadline, and every outage as one typed error.

Scripts are addressed by digest, so the scripts of two releases live side by side in a rolling deploy; a server that has
lost them (restart, SCRIPT FLUSH) answers NOSCRIPT and gets them again. All are idempotent, because a lost answer is
followed by a repeat.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from yadtq.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from yadtq.settings import Settings

__all__ = ["Script", "Scripts", "connect", "within"]

log = logging.getLogger("yadtq.store")
T = TypeVar("T")

#: Answers of a server that is there and can't serve: an outage like any other, never a failure of a task.
_OUTAGE = ("OOM", "MISCONF", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY")


def connect(settings: Settings, *, connections: int = 8) -> Redis:
    """A client that connects on first use. RESP2: RESP3's push handling costs time and brings nothing here."""
    try:
        pool = BlockingConnectionPool.from_url(
            settings.redis,
            max_connections=connections,
            timeout=settings.redis_timeout_s,
            protocol=2,
            socket_timeout=settings.redis_timeout_s,
            socket_connect_timeout=min(settings.redis_timeout_s, settings.connect_timeout_s),
            health_check_interval=15,
            # One quick repeat for a connection that a restarted server has closed; longer outages are the callers'.
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        )
    except ValueError as error:
        raise ConfigError(f"redis URL {settings.redis!r}: {error}") from None
    return Redis.from_pool(pool)  # which it then closes with itself


async def within(seconds: float, call: Awaitable[T], what: str) -> T:
    """The answer of `call`, or `StoreUnavailable` after `seconds` or when the server can't serve."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except (TimeoutError, RedisTimeoutError):
        raise StoreUnavailable(
            f"Redis did not answer {what} within {seconds:g} s; is it running and reachable?"
        ) from None
    except (RedisConnectionError, OSError) as error:
        raise StoreUnavailable(f"Redis: {error}; is it running, and is YADTQ_REDIS right?") from error
    except NoScriptError:
        raise
    except ResponseError as error:
        # redis-py cuts the code off the text of the errors it knows; older servers put it amid a script's error.
        if error.status_code in _OUTAGE or any(word in str(error) for word in _OUTAGE):
            raise StoreUnavailable(f"Redis can't serve {what}: {error}") from error
        raise
    except RedisError as error:
        raise StoreUnavailable(f"Redis, {what}: {error}") from error


class Script:
    """One verb. name: family and verb, `tasks/claim` for `store/tasks/claim.lua`."""

    __slots__ = ("digest", "name", "source")

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = resources.files("yadtq.store").joinpath(f"{name}.lua").read_bytes()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


class Scripts:
    """Calls verbs on one Redis, over connections of its own.

    Every task waits for these calls, so they take the short way: hiredis packs a command in C (redis-py's asyncio client
    packs in Python: 1.3 ms instead of 0.1 ms for 100 tasks), and a connection is taken from a list (its pool checks and
    locks: 50 µs). One deadline around the call stands for all of redis-py's time-outs.
    """

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._pool = redis.connection_pool
        self._timeout_s = timeout_s
        self._idle: list[AbstractConnection] = []

    async def call(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Raises `StoreUnavailable`."""
        try:
            return await self._send(script, pack_command(("EVALSHA", script.digest, len(keys), *keys, *args)))
        except NoScriptError:
            log.info("loading script %s", script.name)
            return await self._send(script, pack_command(("EVAL", script.source, len(keys), *keys, *args)))

    async def _send(self, script: Script, packed: bytes) -> Any:
        return await within(self._timeout_s, self._sent(packed), script.name)

    async def _sent(self, packed: bytes) -> Any:
        try:
            return await self._round_trip(packed)
        except RedisConnectionError:
            # A server that was restarted has closed our idle connections: one repeat, on a new one, is enough to know.
            await self.aclose()
            return await self._round_trip(packed)

    async def _round_trip(self, packed: bytes) -> Any:
        connection = self._idle.pop() if self._idle else self._new_connection()
        try:
            await connection.send_packed_command(packed, check_health=False)
            answer = await connection.read_response(timeout=math.inf)
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # Broken, or broken off between question and answer: it must not be used again.
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return answer

    def _new_connection(self) -> AbstractConnection:
        return self._pool.connection_class(**{**self._pool.connection_kwargs, "socket_timeout": None})

    async def aclose(self) -> None:
        """Close the idle connections; a later call opens new ones."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
