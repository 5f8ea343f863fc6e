"""The servers to measure on: the embedded stack, or Apache Kafka with a Redis server. Always private ones, since every
run empties Redis."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis import Redis

from tests.bench.machine import cpu_s
from tests.support import kafka_jars
from tests.support import stacks as test_stacks
from tests.support.kafka_server import LOG4J, KafkaServer
from tests.support.redis_server import RedisServer
from yadtq.embedded import EmbeddedStack

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES: tuple[test_stacks.StackName, ...] = ("embedded", "kafka")


@dataclass(frozen=True)
class Stack:
    name: str
    kafka: str
    redis: str
    kafka_pid: int
    redis_pid: int
    about: str

    def store(self) -> Redis:
        """A blocking connection for the runner itself."""
        return Redis.from_url(self.redis)

    def servers_cpu_s(self) -> tuple[float, float]:
        """CPU time of Kafka and of Redis."""
        return cpu_s(self.kafka_pid), cpu_s(self.redis_pid)


@contextmanager
def opened(name: str) -> Iterator[Stack]:
    """Raises RuntimeError if the stack can't be run here."""
    found = test_stacks.available("embedded" if name == "embedded" else "kafka")
    if not found:
        raise RuntimeError(f"the stack {name!r} can't be run here: {found.reason}")
    with _embedded() if name == "embedded" else _apache() as stack:
        yield stack


class _Kafka(KafkaServer):
    """With the JVM's own choices: the tests' server gives up its second compiler, to start sooner."""

    def _java(self) -> list[str]:
        return ["java", "-Xmx1g", f"-Dlog4j2.configurationFile={LOG4J}", "-cp", f"{kafka_jars.fetch()}/*"]


@contextmanager
def _embedded() -> Iterator[Stack]:
    with test_stacks.LoopThread() as loop:
        stack = EmbeddedStack()
        stack.kafka_login = False
        loop.run(stack.__aenter__())
        try:
            kafka_pid, redis_pid = stack.broker.pid, stack.store.pid
            assert kafka_pid is not None
            assert redis_pid is not None
            about = f"yadtq-devbroker (kfake) with a data folder, {_server(stack.redis)} with append-only file"
            yield Stack("embedded", stack.kafka, stack.redis, kafka_pid, redis_pid, about)
        finally:
            loop.run(stack.__aexit__(None, None, None))


@contextmanager
def _apache() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="yadtq-bench-") as folder:
        kafka, store = _Kafka(Path(folder) / "kafka"), RedisServer(Path(folder) / "redis")
        try:
            kafka.start_blocking()
            store.start_blocking(aof=False)
            assert kafka.pid is not None
            assert store.pid is not None
            version = kafka_jars.available().reason
            about = f"{version}, one KRaft node on disk; {_server(store.url)}, no persistence"
            yield Stack("kafka", kafka.address, store.url, kafka.pid, store.pid, about)
        finally:
            kafka.discard_blocking()
            store.discard_blocking()


def _server(url: str) -> str:
    with Redis.from_url(url) as client:
        info = client.info("server")
    name = info.get("server_name", "redis").capitalize()
    return f"{name} {info.get('valkey_version', info['redis_version'])}"
