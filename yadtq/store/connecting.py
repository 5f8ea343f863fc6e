"""How every client of Redis connects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from yadtq.errors import ConfigError
from yadtq.runtime.tls import tls_context, tls_of
from yadtq.shown import shown_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from yadtq.settings import Settings

__all__ = ["DRIVER", "connect"]

#: Without it redis-py reads its own version from files for each new connection: 0.5 ms of a blocked loop.
DRIVER = DriverInfo()


class _Encrypted(Connection):
    """TLS with a context that all connections share. redis-py makes one for each: 20 ms of a blocked loop."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls}


def connect(settings: Settings, *, connections: int = 8) -> Redis:
    """A client that connects on first use. RESP2: RESP3's push handling costs time and brings nothing here.

    Raises `ConfigError` for a URL that is none, and if a certificate can't be read.
    """
    try:
        pool = BlockingConnectionPool(
            **{
                "max_connections": connections,
                "timeout": settings.redis_timeout_s,
                "protocol": 2,
                "driver_info": DRIVER,
                "socket_timeout": settings.redis_timeout_s,
                "socket_connect_timeout": min(settings.redis_timeout_s, settings.connect_timeout_s),
                "health_check_interval": 15,
                # One quick retry for a connection that a restarted server has closed; callers handle longer outages.
                "retry": Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
                **_options(settings),
            }
        )
    except (ValueError, TypeError, RedisError) as error:  # TypeError: a parameter that connections don't have
        raise ConfigError(f"redis URL {shown_address(settings.redis)}: {error}") from None
    return Redis.from_pool(pool)  # which it then closes with itself


def _options(settings: Settings) -> dict[str, Any]:
    """Of the URL, which may contain any of redis-py's own, and of the settings."""
    options: dict[str, Any] = dict(parse_url(settings.redis))
    if settings.redis_user is not None:
        options["username"] = settings.redis_user
    if settings.redis_password is not None:
        options["password"] = settings.redis_password.get_secret_value()
    if settings.redis_credentials is not None:
        options["credential_provider"] = settings.redis_credentials
    if options.get("connection_class") is SSLConnection:
        own = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
        options["connection_class"] = _Encrypted
        options["tls"] = _of_the_url(settings, own) if own else tls_context(tls_of(settings, "redis"))
    return options


def _of_the_url(settings: Settings, own: dict[str, Any]) -> ssl.SSLContext:
    """For `?ssl_cert_reqs=none` and the like, as hosted servers put them into their URLs. They say all about TLS."""
    named = [name for name, value in tls_of(settings, "redis")._asdict().items() if name.endswith("file") and value]
    if named:
        raise ConfigError(f"the Redis URL has {', '.join(own)}, and redis_{named[0]} is set: use one of the two ways")
    words: dict[str, Any] = {"cert_reqs": "required", "check_hostname": True}
    words |= {name.removeprefix("ssl_"): value for name, value in own.items()}
    if settings.redis_key_password is not None:
        words["password"] = settings.redis_key_password.get_secret_value()
    try:
        return RedisSSLContext(**words).get()
    except OSError as error:
        raise ConfigError(f"redis URL {shown_address(settings.redis)}: {error}") from None
