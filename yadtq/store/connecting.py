"""How every client of Redis connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.driver_info import DriverInfo

from yadtq.errors import ConfigError
from yadtq.shown import shown_address

if TYPE_CHECKING:
    from yadtq.settings import Settings

__all__ = ["DRIVER", "connect"]

#: Without it redis-py reads its own version from files for each new connection: 0.5 ms of a blocked loop.
DRIVER = DriverInfo()


def connect(settings: Settings, *, connections: int = 8) -> Redis:
    """A client that connects on first use. RESP2: RESP3's push handling costs time and brings nothing here."""
    try:
        pool = BlockingConnectionPool.from_url(
            settings.redis,
            max_connections=connections,
            timeout=settings.redis_timeout_s,
            protocol=2,
            driver_info=DRIVER,
            socket_timeout=settings.redis_timeout_s,
            socket_connect_timeout=min(settings.redis_timeout_s, settings.connect_timeout_s),
            health_check_interval=15,
            # One quick retry for a connection that a restarted server has closed; callers handle longer outages.
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        )
    except ValueError as error:
        raise ConfigError(f"redis URL {shown_address(settings.redis)}: {error}") from None
    return Redis.from_pool(pool)  # which it then closes with itself
