"""The launcher against each Redis that this machine has."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from redis.asyncio import Redis

from tests.support.census import take_census
from tests.support.local_server import ServerDied
from tests.support.poll import eventually
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import Kind, RedisServer

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ["redis", "valkey"]

ORPHAN_MAKER = """
import sys, threading
from pathlib import Path
from tests.support.redis_server import RedisServer
server = RedisServer(Path(sys.argv[1]))
# From a thread that ends at once: the server must live on with the process, not die with the thread.
starter = threading.Thread(target=server.start_blocking)
starter.start()
starter.join()
print(server.pid, flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url, socket_timeout=2, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_what_it_says(redis_server: Callable[..., RedisServer], kind: Kind) -> None:
    server = redis_server(kind=kind)
    await server.start()
    assert server.kind == kind
    async with connected(server.url) as client:
        assert ("valkey_version" in await client.info("server")) == (kind == "valkey")


@pytest.mark.parametrize("kind", KINDS)
async def test_with_its_log_it_keeps_data_over_restart_and_kill(
    redis_server: Callable[..., RedisServer], kind: Kind
) -> None:
    server = redis_server(kind=kind)
    await server.start(aof=True)
    url = server.url
    async with connected(url) as client:
        await client.set("a", "1")
    await server.restart()
    async with connected(url) as client:
        await client.set("b", "2")
    await server.kill()
    await server.start()
    assert server.url == url
    async with connected(url) as client:
        assert await client.mget("a", "b") == ["1", "2"]


async def test_without_its_log_a_kill_loses_everything_and_a_restart_what_it_is_told_to(
    redis_server: Callable[..., RedisServer],
) -> None:
    server = redis_server()
    await server.start(aof=False)
    async with connected(server.url) as client:
        await client.set("a", "1")
    await server.restart(keep_data=True)
    async with connected(server.url) as client:
        assert await client.get("a") == "1"
    await server.restart(keep_data=False)
    async with connected(server.url) as client:
        assert await client.dbsize() == 0
        await client.set("b", "2")
    await server.kill()
    await server.start()
    async with connected(server.url) as client:
        assert await client.dbsize() == 0


async def test_restart_can_lose_the_log_too(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start(aof=True)
    async with connected(server.url) as client:
        await client.set("a", "1")
    await server.restart(keep_data=False)
    async with connected(server.url) as client:
        assert await client.dbsize() == 0


async def test_frozen_it_answers_nothing_until_thawed(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start()
    async with connected(server.url) as client:
        await client.ping()
        await server.freeze()
        asking = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done
        await server.thaw()
        assert await asking


async def test_options_reach_the_server_and_bad_ones_are_told_with_the_log(
    redis_server: Callable[..., RedisServer],
) -> None:
    server = redis_server(options=("--maxmemory", "20mb"))
    await server.start()
    async with connected(server.url) as client:
        assert (await client.config_get("maxmemory"))["maxmemory"] == str(20 * 1024 * 1024)
    with pytest.raises(ServerDied, match="no-such-option"):
        await redis_server(options=("--no-such-option", "1")).start()


async def test_behind_a_proxy_and_census_sees_the_connection(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start()
    before = take_census()
    async with Proxy(server.host, server.port) as proxy, connected(f"redis://{proxy.address}/0") as client:
        await client.ping()
        assert f"itself to {proxy.address}" in take_census().connections
    await eventually(lambda: set(take_census().connections) <= set(before.connections))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a killed process")
async def test_no_orphan_when_the_test_process_is_killed(tmp_path: Path) -> None:
    maker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ORPHAN_MAKER, str(tmp_path)),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert maker.stdout
    server = psutil.Process(int(await asyncio.wait_for(maker.stdout.readline(), 15)))
    assert server.is_running()
    os.kill(maker.pid, signal.SIGKILL)
    await maker.wait()
    await eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, timeout=5)
