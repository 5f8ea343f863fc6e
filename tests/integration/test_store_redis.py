"""What only a real server can show: keys and their lives, scripts that get lost, and servers that can't serve."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from tests.contract.store_harness import QUEUED_TTL_S, RESULT_TTL_S, RedisHarness, settings
from yadtq.errors import ConfigError, StoreUnavailable
from yadtq.store.redis import RedisStore
from yadtq.store.tasks.verbs import WAIT, WAIT_TTL_S, Claim, Finish, Lease, Snapshot
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import RedisServer
    from tests.support.stacks import Servers

S = TaskStatus
LARGE = b'"' + b"x" * 20_000 + b'"'


@pytest.fixture
async def harness(stack: Servers, app_name: str) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(stack.redis, app_name)
    yield harness
    await harness.aclose()


async def use_every_verb(harness: RedisHarness) -> None:
    store = harness.store
    await store.tasks.register(["queued"])
    await store.tasks.wait("c", ["unknown", "queued"])
    await store.tasks.claim("w", [Claim(id_, "n") for id_ in ("running", "done", "retry", "given", "claimed")], 0)
    await store.tasks.renew("w", [Lease("running", "n", 1, True), Lease("restored", "n", 1, True)])
    await store.tasks.release([Lease("given", "n", 1, False)])
    await store.tasks.finish(
        [
            Finish("done", "n", 1, S.SUCCESS, LARGE),
            Finish("retry", "n", 1, S.RETRYING, LARGE, 5_500),
            Finish("refused", "n", 1, S.SUCCESS, LARGE),
            Finish("saved", "n", 1, S.FAILED, b"1", restorable=True),
        ]
    )
    await store.deaths.bury("w0")
    await store.data_set()


async def test_every_key_expires_but_two(harness: RedisHarness) -> None:
    await use_every_verb(harness)
    task, result = harness.keys.task, harness.keys.result
    expected = {
        task + "queued": QUEUED_TTL_S,
        task + "unknown": WAIT_TTL_S,
        task + "running": QUEUED_TTL_S,
        task + "claimed": QUEUED_TTL_S,
        task + "restored": QUEUED_TTL_S,
        task + "given": QUEUED_TTL_S,
        task + "done": RESULT_TTL_S,
        task + "retry": QUEUED_TTL_S + 5,
        task + "saved": RESULT_TTL_S,
        result + "done:nS": RESULT_TTL_S,
        result + "retry:nR": RESULT_TTL_S + 5,
        result + "refused:nS": RESULT_TTL_S,
        harness.keys.dead: -1,
        harness.keys.data_set: -1,
    }
    found = {key: await harness.redis.ttl(key) for key in await harness.all_keys()}
    assert found.keys() == expected.keys()
    for key, seconds in expected.items():
        assert seconds - 5 <= found[key] <= seconds, key


async def test_all_keys_of_an_app_lie_in_one_slot(harness: RedisHarness, app_name: str) -> None:
    await use_every_verb(harness)
    assert all(key.startswith(f"yadtq:{{{app_name}}}:") for key in await harness.all_keys())


async def test_apps_do_not_see_each_other(harness: RedisHarness, stack: Servers, app_name: str) -> None:
    await use_every_verb(harness)
    other = RedisHarness(stack.redis, app_name + "2")
    assert await other.store.tasks.snapshots(["done", "queued"]) == [None, None]
    assert (await other.store.data_set()).name != (await harness.store.data_set()).name
    await other.aclose()


async def test_small_states_stay_compact_and_large_results_are_deflated(harness: RedisHarness) -> None:
    await harness.store.tasks.claim("w", [Claim("small", "n"), Claim("large", "n")], 0)
    await harness.store.tasks.finish(
        [Finish("small", "n", 1, S.SUCCESS, b"x" * 64), Finish("large", "n", 1, S.SUCCESS, LARGE)]
    )
    for task in ("small", "large"):
        assert await harness.redis.object("encoding", harness.keys.task + task) in (b"listpack", b"ziplist")
    assert await harness.redis.strlen(harness.keys.result + "large:nS") < len(LARGE) / 10
    assert not await harness.redis.exists(harness.keys.result + "small:nS")


async def test_a_result_whose_own_key_is_gone_is_not_known_any_more(harness: RedisHarness) -> None:
    await use_every_verb(harness)
    await harness.redis.delete(harness.keys.result + "done:nS")
    assert await harness.store.tasks.snapshots(["done"]) == [None]


async def test_a_retry_is_known_even_if_its_last_error_is_gone(harness: RedisHarness) -> None:
    await use_every_verb(harness)
    await harness.redis.delete(harness.keys.result + "retry:nR")
    assert await harness.store.tasks.snapshots(["retry"]) == [Snapshot(S.RETRYING, 1, b"")]


async def test_lost_scripts_are_loaded_again(harness: RedisHarness) -> None:
    store = harness.store
    await use_every_verb(harness)
    await harness.redis.script_flush()
    await store.tasks.register(["new"])
    for nonce in ("a", "b"):
        await harness.redis.script_flush()
        assert (await store.tasks.claim("w", [Claim(nonce, nonce)], 0))[0].verdict == 1
    await harness.redis.script_flush()
    assert await store.tasks.renew("w", [Lease("a", "a", 1, False)]) == [True]
    await harness.redis.script_flush()
    assert await store.tasks.release([Lease("a", "a", 1, False)]) == [True]
    await harness.redis.script_flush()
    assert await store.tasks.finish([Finish("b", "b", 1, S.SUCCESS, LARGE)]) == [True]
    await harness.redis.script_flush()
    await store.deaths.bury("w")
    await harness.redis.script_flush()
    assert await store.tasks.snapshots(["b"]) == [Snapshot(S.SUCCESS, 1, LARGE)]


async def test_a_death_is_announced(harness: RedisHarness) -> None:
    pubsub = harness.redis.pubsub()
    await pubsub.subscribe(harness.keys.control)
    await pubsub.get_message(timeout=5)
    await harness.store.deaths.bury("host/1-2")
    message = await pubsub.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"dead host/1-2"
    await pubsub.aclose()


async def test_a_lease_ends_on_the_servers_own_clock(stack: Servers, app_name: str) -> None:
    quick = RedisStore(settings(redis=stack.redis).model_copy(update={"lease_s": 0.05}), app_name, random.Random(0))
    await quick.tasks.claim("w", [Claim("t", "a")], 0)
    verdicts = set()
    async with asyncio.timeout(5):
        while (reply := (await quick.tasks.claim("w", [Claim("t", "b")], 1))[0]).verdict == WAIT:
            verdicts.add(0 < reply.wait_ms <= 50)
    assert reply.verdict == 2
    assert verdicts == {True}
    await quick.redis.delete(quick.keys.task + "t")
    await quick.aclose()


async def test_two_processes_agree_on_the_data_set(harness: RedisHarness, stack: Servers, app_name: str) -> None:
    stores = [RedisStore(settings(redis=stack.redis), app_name, random.Random(seed)) for seed in range(5)]
    found = await asyncio.gather(*(store.data_set() for store in stores))
    assert len({each.name for each in found}) == 1
    for store in stores:
        await store.aclose()


async def test_a_full_server_is_an_outage_and_no_failure(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start(aof=False)
    store = RedisStore(settings(redis=server.url), "full", random.Random(0))
    await store.tasks.claim("w", [Claim("t", "n")], 0)
    await store.redis.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable):
        await store.tasks.register(["x"])
    with pytest.raises(StoreUnavailable):
        await store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, LARGE)])
    with pytest.raises(StoreUnavailable):
        await store.data_set()
    await store.redis.config_set("maxmemory", "0")
    assert await store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, LARGE)]) == [True]
    await store.aclose()


async def test_a_replica_is_an_outage_and_no_failure(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start(aof=False)
    store = RedisStore(settings(redis=server.url), "replica", random.Random(0))
    await store.tasks.claim("w", [Claim("t", "n")], 0)
    await store.redis.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreUnavailable):
        await store.tasks.register(["x"])
    with pytest.raises(StoreUnavailable):
        await store.data_set()
    await store.aclose()


async def test_a_server_that_is_not_there_is_a_typed_error_in_one_line(
    redis_server: Callable[..., RedisServer],
) -> None:
    server = redis_server()  # never started: its port is reserved and closed
    store = RedisStore(settings(redis=server.url), "away", random.Random(0))
    for call in (store.start(), store.tasks.register(["t"]), store.data_set(), store.tasks.snapshots(["t"])):
        with pytest.raises(StoreUnavailable) as caught:
            await call
        assert "\n" not in str(caught.value)
    await store.aclose()


async def test_a_frozen_server_is_a_typed_error_within_the_deadline(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start(aof=False)
    store = RedisStore(settings(redis=server.url, redis_timeout_s=0.3), "frozen", random.Random(0))
    await store.tasks.register(["t"])
    await server.freeze()
    began = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailable):
        await store.tasks.register(["u"])
    assert asyncio.get_running_loop().time() - began < 3
    await server.thaw()
    await store.tasks.claim("w", [Claim("u", "n")], 0)
    await store.aclose()


async def test_a_restart_that_keeps_data_changes_nothing(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    await server.start(aof=True)
    store = RedisStore(settings(redis=server.url), "restart", random.Random(0))
    before = (await store.data_set()).name
    await store.tasks.claim("w", [Claim("t", "n")], 0)
    await server.restart()
    assert await store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, LARGE)]) == [True]
    assert (await store.data_set()).name == before
    await store.aclose()


async def test_a_policy_that_evicts_is_warned_of(
    redis_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_server(options=("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"))
    await server.start(aof=False)
    store = RedisStore(settings(redis=server.url), "evicts", random.Random(0))
    await store.start()
    assert "allkeys-lru" in caplog.text
    caplog.clear()
    await store.redis.config_set("maxmemory-policy", "noeviction")
    await store.start()
    assert not caplog.records
    await store.aclose()


def test_a_malformed_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="redis"):
        RedisStore(settings(redis="redis://host:port/0"), "a", random.Random(0))


async def test_a_client_of_ones_own_may_be_given(stack: Servers, app_name: str) -> None:
    redis = Redis.from_url(stack.redis, protocol=2)
    store = RedisStore(settings(redis="redis://nowhere:1/0"), app_name, random.Random(0), redis=redis)
    assert await store.tasks.snapshots(["t"]) == [None]
    await store.aclose()
