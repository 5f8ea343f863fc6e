"""Every answer of a real Redis is data, an outage that passes, or a refusal at the start that says what is missing."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import traceback
import zlib
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from redis.asyncio import Redis

import yadtq.store
from tests.contract.store_harness import settings
from tests.support.fake_redis import FakeRedis
from tests.support.poll import eventually
from tests.support.proxy import Proxy
from yadtq.errors import ResultUnreadable, StoreRefused, StoreUnavailable
from yadtq.store.redis import RedisStore
from yadtq.store.tasks.verbs import DAMAGED, Claim, Finish, Lease, Snapshot, Unreadable
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.redis_server import RedisServer

LARGE = b'"' + b"x" * 5_000 + b'"'
ALL = ("~*", "&*", "+@all")
ROOT = Path(yadtq.store.__path__[0])
SCRIPTS = {str(path.relative_to(ROOT)): path.read_text() for path in ROOT.rglob("*.lua")}
#: What the scripts use.
COMMANDS = {name for text in SCRIPTS.values() for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}


@pytest.fixture
async def server(redis_server: Callable[..., RedisServer]) -> RedisServer:
    server = redis_server()
    await server.start(aof=False)
    return server


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url) as redis:
        yield redis


@asynccontextmanager
async def opened(url: str, app: str = "shop", **more: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings(redis=url, **{"redis_timeout_s": 2.0, **more}), app, random.Random(1))
    try:
        yield store
    finally:
        await store.aclose()


def as_user(server: RedisServer, user: str, password: str) -> str:
    return server.url.replace("redis://", f"redis://{user}:{password}@")


async def allow(admin: Redis, *rules: str, user: str = "u", password: str = "p") -> None:
    await admin.execute_command("ACL", "SETUSER", user, "reset", "on", f">{password}", *rules)


def verbs(store: RedisStore) -> dict[str, Callable[[], Awaitable[Any]]]:
    tasks = store.tasks
    return {
        "register": lambda: tasks.register(["t"]),
        "claim": lambda: tasks.claim("w", [Claim("t", "n")], 0),
        "renew": lambda: tasks.renew("w", [Lease("t", "n", 1, True)]),
        "release": lambda: tasks.release([Lease("t", "n", 1, False)]),
        "finish": lambda: tasks.finish([Finish("t", "n", 1, S.SUCCESS, LARGE, restorable=True)]),
        "snapshots": lambda: tasks.snapshots(["t"]),
        "wait": lambda: tasks.wait("c", ["t"]),
        "unwait": lambda: tasks.unwait("c", ["t"]),
        "bury": lambda: store.deaths.bury("w0"),
        "data_set": store.data_set,
    }


class TestStart:
    async def test_what_the_message_advises_is_enough(self, server: RedisServer, admin: Redis) -> None:
        async with opened("redis://nowhere:1/0") as store:
            pass
        advice = str(StoreRefused("shop", []))
        rules = advice[advice.index("~") : advice.index(" (ACL")].split()
        await allow(admin, *rules)
        async with opened(as_user(server, "u", "p")) as store:
            await store.start()
            for verb in verbs(store).values():
                await verb()
            await hear_one(store, admin)
        assert not await admin.exists("yadtq:{shop}:probe")

    @pytest.mark.parametrize(
        ("rules", "missing"),
        [
            (("~*", "+@all"), "PUBLISH"),  # Redis 7's default of an account: no channels
            (("~*", "+@all"), "SUBSCRIBE"),
            (("&*", "+@all"), "EVAL"),  # no keys
            (("~yadtq:{other}:*", "&*", "+@all"), "EVAL"),
            ((*ALL, "-@scripting"), "EVAL"),
            ((*ALL, "-publish"), "PUBLISH"),
            ((*ALL, "-rename"), "RENAME"),
            ((*ALL, "-hset"), "HSET"),
            ((*ALL, "-mget"), "MGET"),
            ((*ALL, "-set"), "SET"),
            ((*ALL, "-subscribe"), "SUBSCRIBE"),
            ((*ALL, "-evalsha"), "EVALSHA"),
        ],
        ids=str,
    )
    async def test_a_missing_right_is_named(
        self, server: RedisServer, admin: Redis, rules: tuple[str, ...], missing: str
    ) -> None:
        await allow(admin, *rules)
        async with opened(as_user(server, "u", "p")) as store:
            with pytest.raises(StoreRefused) as caught:
                await store.start()
        assert missing in [command for command, _ in caught.value.refused]
        assert re.search("NOPERM|no permissions|can't run", str(caught.value))
        assert "no such key" not in str(caught.value), "only causes, no consequences"
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("url", ["redis://u:wrong@", "redis://nobody:x@", "redis://"])
    async def test_a_wrong_password_is_refused(self, server: RedisServer, admin: Redis, url: str) -> None:
        await admin.execute_command("ACL", "SETUSER", "default", "-@all")
        async with opened(server.url.replace("redis://", url)) as store:
            with pytest.raises(StoreRefused) as caught:
                await store.start()
        assert "wrong" not in str(caught.value), "a password has no place in a message"

    async def test_a_database_that_is_not_there_is_refused(self, server: RedisServer) -> None:
        async with opened(server.url.replace("/0", "/999")) as store:
            with pytest.raises(StoreRefused, match="DB index"):
                await store.start()

    async def test_what_passes_is_no_refusal(self, server: RedisServer, admin: Redis) -> None:
        await admin.config_set("maxmemory", "1")
        async with opened(server.url) as store:
            with pytest.raises(StoreUnavailable, match="OOM"):
                await store.start()
            await admin.config_set("maxmemory", "0")
            await admin.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreUnavailable, match="READONLY"):
                await store.start()

    async def test_hosted_servers_may_forbid_config(self, server: RedisServer, admin: Redis) -> None:
        await allow(admin, *ALL, "-config")
        async with opened(as_user(server, "u", "p")) as store:
            await store.start()


async def hear_one(store: RedisStore, admin: Redis) -> None:
    heard: list[bytes] = []
    service = store.hear_control(heard.append, lambda: None)
    async with anyio.create_task_group() as group:
        await group.start(service.run)
        await admin.publish("yadtq:{shop}:ctl", "dead x")
        await eventually(lambda: b"dead x" in heard)
        service.stop()


class TestRunning:
    """Rights that go while a process runs: an outage like any other, which passes when they come back."""

    @pytest.mark.parametrize(
        "rules",
        [("resetkeys", "&*", "+@all"), (*ALL, "-@write"), (*ALL, "-@scripting"), (*ALL, "-hmget", "-hget"), ("-@all",)],
        ids=str,
    )
    async def test_every_verb_is_an_outage_until_the_rights_are_back(
        self, server: RedisServer, admin: Redis, rules: tuple[str, ...]
    ) -> None:
        await allow(admin, *ALL)
        async with opened(as_user(server, "u", "p")) as store:
            await store.start()
            await store.tasks.claim("w", [Claim("t", "n")], 0)
            await allow(admin, *rules)
            with pytest.raises(StoreUnavailable):
                await store.tasks.claim("w", [Claim("u", "n")], 0)
            for name in ("finish", "renew"):
                with pytest.raises(StoreUnavailable):
                    await verbs(store)[name]()
            await allow(admin, *ALL)
            assert await store.tasks.snapshots(["t"]) == [Snapshot(S.IN_PROGRESS, 1)], "nothing was taken for damage"
            assert await verbs(store)["finish"]() == [True]

    @pytest.mark.parametrize("command", sorted(COMMANDS))
    async def test_a_single_command_that_is_forbidden_damages_nothing(
        self, server: RedisServer, admin: Redis, command: str
    ) -> None:
        await allow(admin, *ALL)
        async with opened(as_user(server, "u", "p")) as store:
            await store.start()
            await store.tasks.claim("w", [Claim("t", "n")], 0)
            await store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, LARGE)])
            await store.tasks.claim("w", [Claim("u", "n")], 0)
            await allow(admin, *ALL, f"-{command.lower()}")
            for name, verb in verbs(store).items():
                try:
                    answer = await verb()
                except StoreUnavailable as error:
                    assert "\n" not in str(error)  # noqa: PT017
                else:
                    damaged = name == "claim" and answer[0].verdict == DAMAGED
                    assert not damaged, "a missing right, taken for damage"
            await allow(admin, *ALL)
            assert await store.tasks.snapshots(["t", "u"]) == [
                Snapshot(S.SUCCESS, 1, LARGE),
                Snapshot(S.IN_PROGRESS, 1),
            ]
            assert not [key async for key in admin.scan_iter("*{damaged}*")]

    @pytest.mark.parametrize("words", ["MOVED 1 10.0.0.1:6379", "ASK 1 10.0.0.1:6379", "CLUSTERDOWN no", "NOPERM no"])
    async def test_an_answer_of_a_cluster_is_an_outage(self, words: str) -> None:
        async with (
            FakeRedis(lambda command: b"+OK\r\n" if command[0] == b"CLIENT" else f"-{words}\r\n".encode()) as fake,
            opened(f"{fake.url}") as store,
        ):
            for verb in verbs(store).values():
                with pytest.raises(StoreUnavailable, match=words.split()[0]):
                    await verb()

    async def test_a_hint_that_is_refused_fails_no_write(self, server: RedisServer, admin: Redis) -> None:
        await allow(admin, *ALL)
        async with opened(as_user(server, "u", "p")) as store:
            await store.start()
            await store.tasks.wait("c", ["t"])
            await store.tasks.claim("w", [Claim("t", "n")], 0)
            await allow(admin, "~*", "+@all")  # no channels
            assert await verbs(store)["finish"]() == [True]
            await store.deaths.bury("w9")
            assert await admin.hexists("yadtq:{shop}:dead", "w9")

    async def test_a_rotated_password_under_load(
        self, server: RedisServer, admin: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unauthenticated script call of some size is answered "Protocol error: unauthenticated multibulk length"."""
        await allow(admin, *ALL)
        async with opened(as_user(server, "u", "p")) as store:
            await store.start()
            caplog.set_level(logging.WARNING, logger="yadtq.store")
            many = [Claim(f"t{number}", "n") for number in range(100)]

            async def claim_all() -> list[Any]:
                return await asyncio.gather(
                    *(store.tasks.claim("w", many, 0) for _ in range(5)), return_exceptions=True
                )

            assert {reply.verdict for replies in await claim_all() for reply in replies} == {1}
            await allow(admin, *ALL, password="another")
            await admin.execute_command("CLIENT", "KILL", "USER", "u")
            for _ in range(20):
                assert {type(outcome) for outcome in await claim_all()} == {StoreUnavailable}
            await allow(admin, *ALL)
            assert {reply.verdict for replies in await claim_all() for reply in replies} == {1}
        assert len(caplog.records) <= 2, "an outage is told once"
        assert "is away" in caplog.text

    async def test_the_connections_of_a_demoted_server_are_dropped(
        self, redis_server: Callable[..., RedisServer], server: RedisServer, admin: Redis
    ) -> None:
        """Behind a fixed name (a proxy, a service, DNS) there is another server since."""
        other = redis_server()
        await other.start(aof=False)
        first, second = ((each.host, each.port) for each in (server, other))
        async with Proxy(*first) as proxy, opened(f"redis://{proxy.address}/0") as store:
            await asyncio.gather(*(verb() for _ in range(3) for verb in verbs(store).values()))
            proxy._target = second
            await admin.replicaof("127.0.0.1", "1")
            await admin.config_set("replica-serve-stale-data", "yes")
            outcomes = []
            for _ in range(8):
                outcomes += await asyncio.gather(*(verb() for verb in verbs(store).values()), return_exceptions=True)
            assert any(isinstance(outcome, StoreUnavailable) for outcome in outcomes[:10])
            assert not any(isinstance(outcome, BaseException) for outcome in outcomes[-20:])
            async with Redis.from_url(other.url) as direct:
                assert await direct.exists("yadtq:{shop}:t:t")


DAMAGE: dict[str, Callable[[Redis, str], Awaitable[Any]]] = {
    "string": lambda redis, key: redis.set(key, "x"),
    "list": lambda redis, key: redis.rpush(key, "x"),
    "stream": lambda redis, key: redis.xadd(key, {"s": "Q"}),
    **{
        f"{field}={value[:12]!r}": lambda redis, key, field=field, value=value: redis.hset(  # type: ignore[misc]
            key, mapping={"s": "I", "a": "1", "n": "other", "l": "1", field: value}
        )
        for field in "alkf"
        for value in ("x", "", "nan", "inf", "-1", "1.5", "0x10", "1e5", "9" * 40, b"\xff\x00", "x" * 10_000)
    },
    **{
        f"s={value!r}": lambda redis, key, value=value: redis.hset(key, mapping={"s": value, "a": "1"})  # type: ignore[misc]
        for value in ("Z", "", "SUCCESS", b"\xff", "s")
    },
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGE)
    async def test_one_damaged_key_is_one_tasks_problem(self, server: RedisServer, admin: Redis, damage: str) -> None:
        key = "yadtq:{shop}:t:bad"
        batch = ["good", "bad", "fine"]
        async with opened(server.url) as store:
            await DAMAGE[damage](admin, key)
            tasks = store.tasks
            await tasks.register(batch)
            _, found, _ = await tasks.wait("c", batch)
            assert found is None or isinstance(found, Unreadable | Snapshot)
            good, bad, fine = await tasks.claim("w", [Claim(id_, "n") for id_ in batch], 0)
            assert (good.verdict, bad.verdict, fine.verdict) == (1, DAMAGED, 1)
            assert await admin.exists(key + "{damaged}"), "kept for whoever looks for the cause"
            assert await admin.ttl(key + "{damaged}") > 0
            ends = [Finish(id_, "n", 0 if id_ == "bad" else 1, S.FAILED, LARGE) for id_ in batch]
            assert (
                await tasks.renew(
                    "w", [Lease(id_, "n", end.attempt, False) for id_, end in zip(batch, ends, strict=True)]
                )
                == [True] * 3
            )
            assert await tasks.finish(ends) == [True] * 3
            assert await tasks.snapshots(batch) == [Snapshot(S.FAILED, end.attempt, LARGE) for end in ends]

    @pytest.mark.parametrize("damage", ["string", "list", "stream"])
    @pytest.mark.parametrize("key", ["dead", "data", "data_set", "probe"])
    async def test_a_damaged_key_of_the_app_stops_nothing(
        self, server: RedisServer, admin: Redis, key: str, damage: str
    ) -> None:
        async with opened(server.url) as store:
            await DAMAGE[damage](admin, f"yadtq:{{shop}}:{key}")
            await store.start()
            for verb in verbs(store).values():
                await verb()
            await store.deaths.bury("w")
            (reply,) = await store.tasks.claim("w", [Claim("u", "n")], 0)
            assert reply.wait_ms > 0, "the certificate counts"
            assert (await store.data_set()).name == (await store.data_set()).name

    async def test_certificates_of_no_time_go(self, server: RedisServer, admin: Redis) -> None:
        async with opened(server.url) as store:
            await admin.hset("yadtq:{shop}:dead", mapping={"a": "x", "b": "", "c": "9" * 30})
            await store.deaths.bury("w")
            assert await admin.hkeys("yadtq:{shop}:dead") == [b"c", b"w"]

    @pytest.mark.parametrize(
        "junk",
        [b"", b"dead", b"dead \xff", b"\xff\xfe", b"dead a\ndead b", b"x" * 1_000_000, b"t\tS\t1\t5", b"t\tZ\t1\t5"],
        ids=lambda junk: repr(junk[:20]),
    )
    async def test_junk_on_a_channel_is_passed_over(self, server: RedisServer, admin: Redis, junk: bytes) -> None:
        async with opened(server.url) as store:
            control: list[bytes] = []
            ends: list[Any] = []
            services = [
                store.hear_control(control.append, lambda: None),
                store.hear_ends("c", ends.extend, lambda: None),
            ]
            async with anyio.create_task_group() as group:
                for service in services:
                    await group.start(service.run)
                for channel in ("ctl", "c:c"):
                    await admin.publish(f"yadtq:{{shop}}:{channel}", junk)
                await store.tasks.wait("c", ["u"])
                await store.tasks.claim("w", [Claim("u", "n")], 0)
                await store.tasks.finish([Finish("u", "n", 1, S.SUCCESS, b"5")])
                await store.deaths.bury("w")
                await eventually(lambda: control[-1:] == [b"dead w"])
                await eventually(lambda: ends[-1:] == [("u", Snapshot(S.SUCCESS, 1, b"5"))])
                for service in services:
                    service.stop()

    @pytest.mark.parametrize(
        "stored",
        [b"\x01junk", b"\x01", pytest.param("bomb", id="bomb"), pytest.param("plain", id="over the limit")],
        ids=repr,
    )
    async def test_a_damaged_or_huge_result_is_one_tasks_problem(
        self, server: RedisServer, admin: Redis, stored: bytes | str
    ) -> None:
        if stored == "bomb":
            stored = b"\x01" + zlib.compress(b"0" * (1 << 28), 9)
        elif stored == "plain":
            stored = b"0" * 200_000
        async with opened(server.url, max_result_bytes=100_000) as store:
            await store.tasks.claim("w", [Claim("t", "n"), Claim("u", "n")], 0)
            await store.tasks.finish([Finish(id_, "n", 1, S.SUCCESS, LARGE) for id_ in ("t", "u")])
            await admin.set("yadtq:{shop}:r:t:nS", stored)
            bad, good = await store.tasks.snapshots(["t", "u"])
            assert isinstance(bad, Unreadable)
            assert bad.status is S.SUCCESS
            assert good == Snapshot(S.SUCCESS, 1, LARGE)
            assert str(ResultUnreadable("t", bad.problem)).count("\n") == 0

    async def test_a_result_of_another_type_is_not_known(self, server: RedisServer, admin: Redis) -> None:
        async with opened(server.url) as store:
            await store.tasks.claim("w", [Claim("t", "n")], 0)
            await store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, LARGE)])
            await admin.delete("yadtq:{shop}:r:t:nS")
            await admin.rpush("yadtq:{shop}:r:t:nS", "x")
            assert await store.tasks.snapshots(["t"]) == [None]


class TestBackInTime:
    async def test_a_snapshot_is_noticed_by_who_has_seen_more(self, server: RedisServer, admin: Redis) -> None:
        async with opened(server.url) as store, opened(server.url) as other, opened(server.url) as newcomer:
            first = (await store.data_set()).name
            assert (await other.data_set()).name == first
            await admin.save()

            async def seen() -> bool:
                await store.data_set()
                return store._seen[1] >= 3

            await eventually(seen, what="three seconds to be counted")
            await server.kill()  # what was not saved is lost
            await server.start()
            assert (await newcomer.data_set()).name == first, "a newcomer can't know"
            second = (await store.data_set()).name
            assert second != first
            assert (await newcomer.data_set()).name == (await other.data_set()).name == second

    async def test_an_older_name_is_no_way_back(self, server: RedisServer, admin: Redis) -> None:
        """A snapshot from before a total loss: its name is an older one, whatever its count."""
        async with opened(server.url) as store:
            first = (await store.data_set()).name
            saved = await admin.dump("yadtq:{shop}:data") or b""
            await admin.hset("yadtq:{shop}:data", "b", "7")
            await admin.flushall()
            second = (await store.data_set()).name
            assert second != first
            await admin.restore("yadtq:{shop}:data", 0, saved, replace=True)
            third = (await store.data_set()).name
            assert third not in (first, second)
            assert await admin.hexists("yadtq:{shop}:data", "m")

    async def test_concurrent_looks_are_no_loss(self, server: RedisServer) -> None:
        async with opened(server.url) as store:
            names = {
                found.name for _ in range(40) for found in await asyncio.gather(*(store.data_set() for _ in range(20)))
            }
        assert len(names) == 1


@pytest.mark.parametrize("depth", [0, 3, 50])
async def test_a_failed_task_takes_at_most_a_thousand_bytes(server: RedisServer, admin: Redis, depth: int) -> None:
    def fail(left: int) -> None:
        if left:
            fail(left - 1)
        json.loads("{bad")

    try:
        fail(depth)
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
        payload = json.dumps({"type": "JSONDecodeError", "message": str(error), "traceback": text}).encode()
    async with opened(server.url) as store:
        await store.tasks.claim(
            "web-1.shop.slot-0:1f2e3d4c", [Claim("93ff21c5a7dcc31c7bd9e065", "0123456789abcdef12")], 0
        )
        end = Finish("93ff21c5a7dcc31c7bd9e065", "0123456789abcdef12", 1, S.FAILED, payload)
        assert await store.tasks.finish([end]) == [True]
        assert await store.tasks.snapshots([end.task_id]) == [Snapshot(S.FAILED, 1, payload)]
    used = [
        await admin.memory_usage(key, samples=0) or 0 async for key in admin.scan_iter("*93ff21c5a7dcc31c7bd9e065*")
    ]
    assert len(used) == 2
    assert sum(used) <= 1_000


def test_the_probe_tries_every_command_of_the_scripts() -> None:
    assert set(re.findall(r"\{ '([A-Z]+)'", SCRIPTS["probe.lua"])) >= COMMANDS
