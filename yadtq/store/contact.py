"""Why Redis can't be used with these settings: looked at only when the first connection of a process has failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from yadtq.errors import ConfigError
from yadtq.runtime.contact import causes, plain_answer, speaks_tls, tls_alert
from yadtq.runtime.tls import tls_problem
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from redis.asyncio import Redis

__all__ = ["Seen", "first_contact", "verdict"]

T = TypeVar("T")

#: A server without TLS does not answer a TLS handshake, and does not close it: after so long we look what it speaks.
_PATIENCE_S = 1.0
_QUESTION = b"PING\r\n"
_ANSWERS = (b"+PONG", b"-NOAUTH", b"-DENIED", b"-NOPERM", b"-LOADING", b"-MASTERDOWN", b"-ERR")


class Seen(NamedTuple):
    """What a second look has found. alert: the end of a TLS connection on which nothing was said."""

    tls: bool = False
    plain: bool = False
    alert: Exception | None = None


async def first_contact(call: Coroutine[Any, Any, T], redis: Redis) -> T:
    """The result of `call`, the first use of `redis`. Raises `ConfigError` if it fails, and waiting does not help."""
    options = redis.connection_pool.connection_kwargs
    encrypted = "tls" in options
    asked = asyncio.ensure_future(call)
    try:
        await asyncio.wait([asked], timeout=_PATIENCE_S)
        if not asked.done():
            reason = verdict(None, encrypted=encrypted, seen=await _look(options))
            if reason is not None:
                raise ConfigError(f"{_place(options)}: {reason}")
        return await asked
    except ConfigError:
        raise
    except Exception as error:  # the library, or unexpected bytes: only looked at, and raised as it came
        reason = verdict(error, encrypted=encrypted, seen=Seen())
        if reason is None and not any(isinstance(cause, ConnectionRefusedError) for cause in causes(error)):
            reason = verdict(error, encrypted=encrypted, seen=await _look(options))
        if reason is None:
            raise
        raise ConfigError(f"{_place(options)}: {reason}") from error
    finally:
        if not asked.done():
            asked.cancel()
            await asyncio.wait([asked])


def verdict(error: BaseException | None, *, encrypted: bool, seen: Seen) -> str | None:
    """What is wrong, and which setting to look at: a pure decision. None: nothing that is known to last."""
    for cause in [*causes(error), *causes(seen.alert)]:
        if (problem := tls_problem(cause, "redis")) is not None:
            return problem
    if encrypted and seen.plain:
        return "it does not speak TLS on this port: see redis (YADTQ_REDIS), which has rediss:// for TLS"
    if not encrypted and seen.tls:
        return "it speaks TLS on this port: use rediss:// in redis (YADTQ_REDIS)"
    return None


def _place(options: dict[str, Any]) -> str:
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return shown(f"Redis at {options.get('path') or f'{host}:{port}'}")


async def _look(options: dict[str, Any]) -> Seen:
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    if "path" in options:
        return Seen()
    if "tls" in options:
        if (await plain_answer(host, port, _QUESTION)).startswith(_ANSWERS):
            return Seen(plain=True)
        return Seen(alert=await tls_alert(host, port, options["tls"]))
    return Seen(tls=await speaks_tls(host, port))
