"""What `yadtq check` looks at: the I/O, each look under a deadline. Nothing is changed, but for the task of the round
trip.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from yadtq.broker.topics import seen_topics
from yadtq.broker.wanted import topics_of
from yadtq.cli import verdicts
from yadtq.cli.verdicts import Line
from yadtq.client.roster import live_workers
from yadtq.errors import ConfigError, YadtqError
from yadtq.registry import PING
from yadtq.shown import shown, shown_address
from yadtq.store.connecting import connect
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from yadtq.app import Yadtq
    from yadtq.settings import Settings
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["look"]

#: Added to the deadline of a look for what closes its connections.
_CLOSE_S = 5.0


async def look(find: Callable[[], Yadtq], seconds: float) -> list[Line]:
    """All lines, in the order of what depends on what. find: the app; raises `ConfigError`. seconds: for each look."""
    try:
        app = find()
        queues = app.queues
        settings = app.settings_with(connect_timeout_s=seconds)
    except ConfigError as error:
        return [verdicts.failed("settings", error)]
    lines = [Line("settings", "ok", _connections(app.name, settings))]
    kafka = await _within(seconds, "kafka", lambda: _kafka(app.name, queues, settings))
    redis = await _within(seconds, "redis", lambda: _redis(app, settings))
    lines += kafka + redis
    if verdicts.status_of(lines) == 0:
        lines += await _within(3 * seconds, "workers", lambda: _workers(app, settings, queues, seconds))
    return lines


async def _within(seconds: float, what: str, ask: Callable[[], Awaitable[list[Line]]]) -> list[Line]:
    try:
        async with asyncio.timeout(seconds + _CLOSE_S):
            return await ask()
    except TimeoutError:
        return [verdicts.failed(what, TimeoutError(f"no answer within {seconds:g} s"))]
    except (YadtqError, OSError) as error:
        return [verdicts.failed(what, error)]


def _connections(app: str, settings: Settings) -> str:
    tls = "TLS" if settings.kafka_tls else "no TLS"
    login = settings.kafka_sasl or ("client certificate" if settings.kafka_cert_file else "no login")
    return shown(f"app {app}, Kafka {settings.kafka} ({tls}, {login}), Redis {shown_address(settings.redis)}", 500)


async def _kafka(app: str, queues: Sequence[str], settings: Settings) -> list[Line]:
    names = TopicNames(app)
    wanted = topics_of(names, queues, settings)
    seen = await seen_topics(settings, wanted)
    brokers = f"{seen.brokers} broker{'s' if seen.brokers != 1 else ''}"
    first = Line("kafka", "ok", f"{brokers}, new enough (2.8 or later)")  # or it could not have answered
    return [first, *verdicts.topics(wanted, [names.tasks(queue) for queue in queues], seen)]


async def _redis(app: Yadtq, settings: Settings) -> list[Line]:
    store = app.outside(settings).store
    try:
        await store.start()
    finally:
        await store.aclose()
    redis = connect(settings, connections=1)
    try:
        begun = time.time()
        told, micros = await redis.time()
        round_trip = time.time() - begun
        skew = told + micros / 1e6 - begun - round_trip / 2
        try:
            info: dict[str, Any] | None = await redis.info()
        except RedisError:  # hosted servers and accounts of least rights forbid it
            info = None
    except RedisError as error:
        raise OSError(f"Redis: {shown(error)}") from error
    finally:
        await redis.aclose()
    rights = Line("redis", "ok", "reachable, with every right that is needed")
    return [rights, verdicts.redis_server(info), verdicts.clock("redis", skew, round_trip / 2)]


async def _workers(app: Yadtq, settings: Settings, queues: Sequence[str], seconds: float) -> list[Line]:
    names = TopicNames(app.name)
    if names.heartbeats not in (await seen_topics(settings, [names.heartbeats])).partitions:
        return [verdicts.workers([], queues), verdicts.round_trip(None, None)]
    outside = app.outside(settings)
    try:
        beats = await live_workers(outside, settings)
        stamps = [record.timestamp for record in await outside.broker.recent(names.heartbeats, 60.0)]
    finally:
        await outside.store.aclose()
    # A heartbeat has been written within the last interval: by so much the comparison is uncertain.
    newest = max(stamps, default=None) if beats else None
    skew = None if newest is None else newest / 1000 - time.time()
    lines = [verdicts.clock("kafka", skew, 2 * settings.heartbeat_s), verdicts.workers(beats, queues)]
    return [*lines, await _round_trip(app, beats, seconds)]


async def _round_trip(app: Yadtq, beats: Sequence[Heartbeat], seconds: float) -> Line:
    served = sorted({queue for beat in beats if beat.phase == "running" for queue in beat.queues})
    if not served:
        return verdicts.round_trip(None, None)
    try:
        async with asyncio.timeout(2 * seconds), app.client() as client:
            begun = time.monotonic()
            queue = "default" if "default" in served else served[0]
            handle = await client.submit_task(PING, (), {}, {"queue": queue})
            await handle.result(timeout=seconds)
            return verdicts.round_trip(time.monotonic() - begun, None)
    except TimeoutError:
        text = f"no worker has answered within {seconds:g} s: are their slots taken by long tasks? (yadtq workers)"
        return Line("round trip", "failed", text, 1)
    except YadtqError as error:
        return verdicts.round_trip(None, error)
