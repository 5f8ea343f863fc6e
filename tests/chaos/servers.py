"""The servers of one chaos run, private ones, and a way of its own to each of them for every party.

A party ("a", "b", "client") is what can be cut off alone: it reaches each server through a proxy that nobody else uses.
Apache Kafka sends the clients of a party's listener to that party's proxy. The devbroker can't tell its clients apart,
so on the embedded stack parties are cut off from Redis only; in exchange its control channel makes faults that no signal
and no network can.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.support.kafka_server import KafkaServer
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from yadtq.embedded import EmbeddedStack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq_devbroker.control import BrokerControl

    from tests.support.stacks import StackName
    from yadtq.embedded.server import ServerProcess

PARTIES = ("a", "b", "client")
EMBEDDED_BROKERS = 2


class Server(Protocol):
    """What can be done to a server."""

    name: str

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...
    async def freeze(self) -> None: ...
    async def thaw(self) -> None: ...


class Servers(ABC):
    """Open with `async with`. `kafka` and `redis` are the servers, `kafka_proxies` and `redis_proxies` the ways to them."""

    stack: StackName
    kafka: Server
    redis: Server
    #: Addresses that no fault of the network touches: for those who look on.
    direct_kafka: str
    direct_redis: str

    def __init__(self, folder: Path, parties: Sequence[str] = PARTIES, seed: int = 0) -> None:
        self.folder = folder
        self.parties = tuple(parties)
        self.seed = seed
        self.kafka_proxies: dict[str, Proxy] = {}
        self.redis_proxies: dict[str, Proxy] = {}
        self.control: BrokerControl | None = None
        self._cleanup = AsyncExitStack()

    async def __aenter__(self) -> Servers:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._open()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._cleanup.aclose()

    @abstractmethod
    async def _open(self) -> None: ...

    @abstractmethod
    async def erase_redis(self) -> None:
        """Remove the data of the Redis that has been killed."""

    def kafka_for(self, party: str) -> str:
        proxy = self.kafka_proxies.get(party)
        return proxy.address if proxy else self.direct_kafka

    def redis_for(self, party: str) -> str:
        login, at, _ = self.direct_redis.removeprefix("redis://").rpartition("@")
        return f"redis://{login}{at}{self.redis_proxies[party].address}/0"

    async def heal_network(self) -> None:
        for proxy in (*self.kafka_proxies.values(), *self.redis_proxies.values()):
            proxy.heal()

    async def _open_redis_proxies(self, port: int) -> None:
        for place, party in enumerate(self.parties):
            proxy = Proxy("127.0.0.1", port, seed=self.seed + place)
            self.redis_proxies[party] = await self._cleanup.enter_async_context(proxy)


class ApacheServers(Servers):
    """Apache Kafka (one KRaft node) and redis-server with an append-only file."""

    stack = "kafka"

    def __init__(self, folder: Path, parties: Sequence[str] = PARTIES, seed: int = 0) -> None:
        super().__init__(folder, parties, seed)
        self.kafka: KafkaServer = KafkaServer(folder / "kafka")
        self.redis: RedisServer = RedisServer(folder / "redis")

    async def _open(self) -> None:
        for server in (self.kafka, self.redis):
            self._cleanup.callback(server.discard_blocking)
        for place, party in enumerate(self.parties):
            proxy = Proxy(self.kafka.host, self.kafka.add_listener(party), seed=self.seed + 100 + place)
            self.kafka_proxies[party] = await self._cleanup.enter_async_context(proxy)
            self.kafka.advertise(party, proxy.address)
        await self.redis.start()
        await self.kafka.start()
        await self._open_redis_proxies(self.redis.port)
        self.direct_kafka, self.direct_redis = self.kafka.address, self.redis.url

    async def erase_redis(self) -> None:
        self.redis.discard_blocking()


class _Embedded:
    """`Server` over a `ServerProcess`, whose freeze and thaw are not coroutines."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self.name = process.name
        self.start, self.stop, self.kill = process.start, process.stop, process.kill

    async def freeze(self) -> None:
        self._process.freeze()

    async def thaw(self) -> None:
        self._process.thaw()


class EmbeddedServers(Servers):
    """The devbroker with two brokers and its control channel, and Valkey."""

    stack = "embedded"

    async def _open(self) -> None:
        from yadtq_devbroker.control import BrokerControl

        # A folder that is kept: it outlives kill -9 with everything that was acknowledged.
        stack = EmbeddedStack(self.folder / "stack", brokers=EMBEDDED_BROKERS, control=True)
        stack.kafka_login = False
        await self._cleanup.enter_async_context(stack)
        self.kafka, self.redis = _Embedded(stack.broker), _Embedded(stack.store)
        self.direct_kafka, self.direct_redis = stack.kafka, stack.redis
        assert stack.control is not None
        self.control = BrokerControl(stack.control, stack.control_token)
        await self._open_redis_proxies(stack.store.port)
        self._redis_data = Path(stack.data_dir) / "redis"

    async def erase_redis(self) -> None:
        for path in self._redis_data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def servers(stack: StackName, folder: Path, *, parties: Sequence[str] = PARTIES, seed: int = 0) -> Servers:
    return (EmbeddedServers if stack == "embedded" else ApacheServers)(folder, parties, seed)
