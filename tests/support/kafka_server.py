"""A private Apache Kafka for tests: one KRaft node, broker and controller in one process, data and port kept.

To cut the way between one party and Kafka, give that party a listener of its own, which advertises the party's proxy:

    kafka = kafka_server()
    async with Proxy(kafka.host, kafka.add_listener("worker")) as proxy:
        kafka.advertise("worker", proxy.address)       # before start: clients follow what the broker advertises
        await kafka.start()
"""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import kafka_jars
from tests.support.local_server import LocalServer
from tests.support.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

available = kafka_jars.available

LOG4J = Path(__file__).with_name("kafka") / "log4j2.xml"
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={LOG4J}")

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "auto.create.topics.enable": "false",
    # One node: everything that is replicated by default is not.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Few partitions of internal topics: each costs files and start time.
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.num.partitions": "1",
    # Tests must not wait for the patience of production.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    # The controller believes a killed broker alive for this long, and refuses its successor meanwhile.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "100",
    # Compaction, retention and deletion within seconds, where a topic asks for them.
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "500",
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


class KafkaServer(LocalServer):
    """Starts on a fresh, empty log; later starts continue it."""

    name = "kafka"
    start_timeout_s = 60.0

    def __init__(
        self, directory: Path, *, advertised: str | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`advertised` ("host:port") is what clients of the main listener are sent to, `settings` go over the above."""
        super().__init__(directory)
        self._controller_port = reserve_port()
        self._listeners: dict[str, int] = {"BROKER": self.port, "INTERNAL": reserve_port()}
        self._advertised: dict[str, str] = {"BROKER": advertised} if advertised else {}
        self._settings = {**SETTINGS, **(settings or {})}
        #: Of listeners that are not PLAINTEXT.
        self.protocols: dict[str, str] = {}
        #: For the tool that makes the storage, such as users of SCRAM.
        self.format_options: list[str] = []
        self._data = directory / "data"
        self._config = directory / "server.properties"

    def add_listener(self, name: str) -> int:
        """One more port, for clients that must be cut off alone; returns it. Only before a start."""
        return self._listeners.setdefault(name.upper(), reserve_port())

    def advertise(self, name: str, address: str) -> None:
        """Send the clients of that listener to `address`; "broker" is the main one. Only before a start."""
        self._advertised[name.upper()] = address

    def restart_blocking(self) -> None:
        self.stop_blocking()
        self.start_blocking()

    async def restart(self) -> None:
        await self._in_thread(self.restart_blocking)

    def _prepare(self) -> None:
        lines = [f"{key}={value}" for key, value in {**self._settings, **self._addresses()}.items()]
        self._config.write_text("\n".join(lines) + "\n")
        if not (self._data / "meta.properties").exists():
            self._format()

    def _addresses(self) -> dict[str, str]:
        at = {name: f"{self.host}:{port}" for name, port in self._listeners.items()}
        controller = f"{self.host}:{self._controller_port}"
        told = {**at, **self._advertised}
        return {
            "listeners": ",".join(f"{name}://{address}" for name, address in {**at, "CONTROLLER": controller}.items()),
            "advertised.listeners": ",".join(f"{name}://{told[name]}" for name in at),
            "listener.security.protocol.map": ",".join(
                f"{name}:{self.protocols.get(name, 'PLAINTEXT')}" for name in (*at, "CONTROLLER")
            ),
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": str(self._data),
        }

    def _format(self) -> None:
        tool = [*self._java(), "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id()]
        done = subprocess.run(
            [*tool, "-c", str(self._config), *self.format_options],
            capture_output=True,
            text=True,
            timeout=self.start_timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"formatting Kafka's storage failed:\n{done.stdout}{done.stderr}")

    def _command(self) -> Sequence[str]:
        return [*self._java(), "kafka.Kafka", str(self._config)]

    def _java(self) -> list[str]:
        return ["java", *JVM, "-cp", f"{kafka_jars.fetch()}/*"]

    def _answers(self) -> bool:
        """Metadata that names a broker: an open port alone does not mean that requests are processed yet."""
        # By the listener that never asks for a login.
        with socket.create_connection((self.host, self._listeners["INTERNAL"]), timeout=5) as connection:
            # Metadata (3), version 4: correlation id 1, no client id, no topics, no auto-creation.
            request = struct.pack(">hhihib", 3, 4, 1, -1, 0, 0)
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as replies:
                # Length, correlation id, throttle time, number of brokers.
                head = replies.read(16)
        return len(head) == 16 and struct.unpack(">iiii", head)[3] > 0

    def _erase(self) -> None:
        self._remove(self._data, self._config)


def cluster_id() -> str:
    # Without the highest bit the first letter is never "-", which the tool would take for an option (one time in 64).
    first, *rest = uuid.uuid4().bytes
    return base64.urlsafe_b64encode(bytes([first & 0x7F, *rest])).decode().rstrip("=")
