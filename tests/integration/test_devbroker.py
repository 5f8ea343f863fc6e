"""The devbroker as its clients see it: a process, a broker with static group members, and faults on demand."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, RequestTimedOutError, UnknownTopicOrPartitionError
from yadtq_devbroker import binary
from yadtq_devbroker.control import BrokerControl, ControlError

from tests.support.poll import eventually
from yadtq.embedded import EmbeddedStack
from yadtq.embedded.datadir import DataDir
from yadtq.embedded.server import ServerProcess
from yadtq.embedded.servers import broker_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "a token of the test"
GROUP = "readers"
PARTITION = TopicPartition("events", 0)


class Broker:
    """Two brokers with a control channel and the topic."""

    def __init__(self, address: str, control: str) -> None:
        self.address = address
        self.control = BrokerControl(control, TOKEN)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def create_topic(self, name: str = PARTITION.topic, **configs: str) -> None:
        async with self.admin() as admin:
            await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=configs)])

    def producer(self, *, idempotent: bool = True, deadline_ms: int = 10_000) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self.address,
            acks="all",
            enable_idempotence=idempotent,
            request_timeout_ms=deadline_ms,
            retry_backoff_ms=20,
        )

    def consumer(self, topic: str = PARTITION.topic) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.address,
            group_id=GROUP,
            group_instance_id="slot-1",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            retry_backoff_ms=20,
        )

    async def values(self, topic: str = PARTITION.topic) -> list[bytes]:
        """What is in the log, read without a group."""
        partition = TopicPartition(topic, 0)
        async with AIOKafkaConsumer(bootstrap_servers=self.address) as consumer:
            consumer.assign([partition])
            await consumer.seek_to_beginning()
            end = (await consumer.end_offsets([partition]))[partition]
            values: list[bytes] = []
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    values += [record.value for record in records]
            return values


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    data = DataDir(tmp_path)
    await asyncio.to_thread(data.open)
    server = ServerProcess(broker_spec(data, port=0, brokers=2, token=TOKEN), lock_fd=data.lock_fd, timeout=10)
    try:
        await server.start()
        found = Broker(f"127.0.0.1:{server.ports[0]}", f"127.0.0.1:{server.ports[2]}")
        await found.create_topic()
        yield found
    finally:
        await server.stop()
        await asyncio.to_thread(data.close)


@asynccontextmanager
async def serving(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(str(binary()), *options, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready_line(process: asyncio.subprocess.Process) -> dict[str, object]:
    assert process.stdout is not None
    line: dict[str, object] = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
    return line


@asynccontextmanager
async def locked(folder: Path, password: str) -> AsyncIterator[ServerProcess]:
    """A broker that asks for a login."""
    data = DataDir(folder)
    await asyncio.to_thread(data.open)
    spec = broker_spec(data, port=0, brokers=1, token=None, password=password)
    server = ServerProcess(spec, lock_fd=data.lock_fd, timeout=10)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        await asyncio.to_thread(data.close)


async def appends(server: ServerProcess, user: str, password: str, mechanism: str = "SCRAM-SHA-256") -> bool:
    """Whether a client with this login is let in, and can write. user: "" for a client that does not log in."""
    login = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": password,
    }
    address = {"bootstrap_servers": f"127.0.0.1:{server.port}", **(login if user else {})}
    admin, producer = AIOKafkaAdminClient(**address), AIOKafkaProducer(**address)
    try:
        async with asyncio.timeout(10):
            await admin.start()
            topics = await admin.list_topics()
            if PARTITION.topic not in topics:
                await admin.create_topics([NewTopic(PARTITION.topic, 1, 1)])
            await producer.start()
            await producer.send_and_wait(PARTITION.topic, b"x")
    except KafkaError:
        return False
    finally:
        await producer.stop()
        await admin.close()
    return True


# --- the process


async def test_with_a_password_only_those_are_let_in_who_know_it(tmp_path: Path) -> None:
    async with locked(tmp_path, "the first") as server:
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            assert await appends(server, "yadtq", "the first", mechanism)
            assert not await appends(server, "yadtq", "another", mechanism)
        assert not await appends(server, "admin", "admin")
        assert not await appends(server, "", "")
        shown = await asyncio.to_thread(Path(f"/proc/{server.pid}/cmdline").read_bytes)
        assert b"the first" not in shown, "all users can read a command line"
    async with locked(tmp_path, "the second") as server:  # with the data of the first
        assert await appends(server, "yadtq", "the second")
        assert not await appends(server, "yadtq", "the first")


async def test_the_ready_line_tells_the_addresses_and_stdin_ends_it() -> None:
    async with serving("--exit-with-stdin", "--brokers", "2") as process:
        ready = await ready_line(process)
        assert ready["ready"] is True
        assert ready["control"] is None
        assert isinstance(ready["brokers"], list)
        assert len(set(ready["brokers"])) == 2
        assert ready["kafka"] == ready["brokers"][0]
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_it_cleanly(tmp_path: Path, signum: signal.Signals) -> None:
    async with serving("--data", str(tmp_path)) as process:
        await ready_line(process)
        process.send_signal(signum)
        assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--addr", "0.0.0.0:0"], b"name the address that clients use"),
        (["--addr", "nonsense"], b"--addr"),
        (["--brokers", "0"], b"--brokers 0"),
        (["--addr", "127.0.0.1:0,127.0.0.1:0", "--brokers", "3"], b"2 addresses for --brokers 3"),
        (["--control", "0.0.0.0:0"], b"not a loopback address"),
        (["--config", "nonsense"], b"want key=value"),
        (["guard"], b"no command"),
        (["guard", "--", "/no/such/command"], b"no such file"),
    ],
)
async def test_bad_options_are_refused_in_words(options: list[str], reason: bytes) -> None:
    async with serving(*options) as process:
        out, err = await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode != 0
        assert out == b""
        assert reason in err


async def test_the_guard_passes_the_status_on_and_kills_what_does_not_end() -> None:
    async with serving("guard", "--", "sh", "-c", "exit 7") as process:
        assert await asyncio.wait_for(process.wait(), 5) == 7
    async with serving("guard", "-grace", "50ms", "--", "sh", "-c", "trap '' TERM; echo '{}'; sleep 60") as process:
        assert await ready_line(process) | await ready_line(process)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 128 + signal.SIGKILL


# --- clients


async def test_a_static_member_consumes_and_comes_back_to_its_place(broker: Broker) -> None:
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
        async with broker.consumer() as consumer:
            record = await asyncio.wait_for(consumer.getone(), 10)
            assert record.value == b"first"
            await consumer.commit({PARTITION: record.offset + 1})
        await producer.send_and_wait(PARTITION.topic, b"second", partition=0)
    async with broker.consumer() as successor:
        assert (await asyncio.wait_for(successor.getone(), 10)).value == b"second"
        assert successor.assignment() == {PARTITION}


async def test_topics_are_not_created_by_asking_for_them(broker: Broker) -> None:
    async with broker.producer(deadline_ms=500) as producer:
        with pytest.raises((UnknownTopicOrPartitionError, KafkaError)):
            await producer.send_and_wait("nowhere", b"x")
    async with broker.admin() as admin:
        assert await admin.list_topics() == [PARTITION.topic]


# --- faults


async def test_a_produce_is_applied_and_then_reported_as_timed_out(broker: Broker) -> None:
    fault = await broker.control.fail("Produce", "REQUEST_TIMED_OUT", applied=True, count=None)
    # An idempotent producer would try again for ever: aiokafka gives its batches no deadline.
    async with broker.producer(idempotent=False, deadline_ms=300) as producer:
        with pytest.raises(RequestTimedOutError):
            await producer.send_and_wait(PARTITION.topic, b"uncertain", partition=0)
    assert await fault.hits() >= 1
    assert set(await broker.values()) == {b"uncertain"}


async def test_the_retry_after_it_is_deduplicated_for_idempotent_producers_only(broker: Broker) -> None:
    for idempotent in (True, False):
        fault = await broker.control.fail("Produce", applied=True, topic=PARTITION.topic)
        async with broker.producer(idempotent=idempotent) as producer:
            await producer.send_and_wait(PARTITION.topic, b"idempotent" if idempotent else b"plain", partition=0)
        assert await fault.hits() == 1
    assert await broker.values() == [b"idempotent", b"plain", b"plain"]


async def test_an_error_that_is_not_applied_leaves_no_record(broker: Broker) -> None:
    fault = await broker.control.fail("Produce", "NOT_ENOUGH_REPLICAS", count=3)
    async with broker.producer(idempotent=False) as producer:
        await producer.send_and_wait(PARTITION.topic, b"once", partition=0)
    assert await fault.wait(3) == 3
    assert await broker.values() == [b"once"]


async def test_a_fault_meets_only_what_it_selects(broker: Broker) -> None:
    await broker.create_topic("other")
    fault = await broker.control.fail("Produce", "MESSAGE_TOO_LARGE", topic="other", partitions=[0], count=None)
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"fine", partition=0)
        with pytest.raises(KafkaError):
            await producer.send_and_wait("other", b"refused", partition=0)
    assert await fault.hits() == 1
    assert await broker.values("other") == []
    await fault.remove()
    with pytest.raises(ControlError, match="no fault"):
        await fault.hits()


@pytest.mark.parametrize("kind", ["FindCoordinator", "JoinGroup", "SyncGroup"])
async def test_a_group_forms_in_spite_of_errors(broker: Broker, kind: str) -> None:
    error = {"FindCoordinator": "COORDINATOR_NOT_AVAILABLE", "SyncGroup": "REBALANCE_IN_PROGRESS"}.get(kind)
    fault = await broker.control.fail(kind, error or "COORDINATOR_LOAD_IN_PROGRESS", group=GROUP, count=2)
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
    async with broker.consumer() as consumer:
        assert (await asyncio.wait_for(consumer.getone(), 20)).value == b"first"
    assert await fault.hits() == 2


async def test_a_commit_is_applied_and_then_reported_as_timed_out(broker: Broker) -> None:
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
    async with broker.consumer() as consumer:
        await asyncio.wait_for(consumer.getone(), 10)
        await broker.control.fail("OffsetCommit", applied=True, group="another", count=None)
        fault = await broker.control.fail("OffsetCommit", applied=True, group=GROUP)
        try:
            await asyncio.wait_for(consumer.commit({PARTITION: 1}), 10)
        except KafkaError as error:
            print(f"aiokafka passes it on: {error!r}")
        assert await fault.hits() == 1
        assert await consumer.committed(PARTITION) == 1


async def test_a_leader_moves_and_clients_follow(broker: Broker) -> None:
    async with broker.producer() as producer, broker.consumer() as consumer:
        await producer.send_and_wait(PARTITION.topic, b"before", partition=0)
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"before"
        old = await broker.control.leader(PARTITION.topic, 0)
        new = await broker.control.move_leader(PARTITION.topic, 0)
        assert {old, new} == {0, 1}
        assert await broker.control.leader(PARTITION.topic, 0) == new
        await asyncio.wait_for(producer.send_and_wait(PARTITION.topic, b"after", partition=0), 10)
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"after"
        assert await broker.control.move_leader(PARTITION.topic, 0, node=old) == old
    with pytest.raises(ControlError, match="no such topic"):
        await broker.control.leader("nowhere", 0)
    with pytest.raises(ControlError, match="node 9 not found"):
        await broker.control.move_leader(PARTITION.topic, 0, node=9)


async def test_a_coordinator_moves_and_the_member_keeps_its_partitions(broker: Broker) -> None:
    async with broker.producer() as producer, broker.consumer() as consumer:
        await producer.send_and_wait(PARTITION.topic, b"before", partition=0)
        await asyncio.wait_for(consumer.getone(), 10)
        old = await broker.control.coordinator(GROUP)
        new = await broker.control.move_coordinator(GROUP)
        assert new != old
        assert await broker.control.coordinator(GROUP) == new

        async def committed() -> bool:
            await consumer.commit({PARTITION: 1})
            return bool(await consumer.committed(PARTITION) == 1)

        await eventually(committed, timeout=15, what="a commit through the new coordinator")
        await producer.send_and_wait(PARTITION.topic, b"after", partition=0)
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"after"
        assert consumer.assignment() == {PARTITION}


async def test_a_dropped_connection_is_made_again(broker: Broker) -> None:
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
        fault = await broker.control.drop("Produce", count=2)
        await producer.send_and_wait(PARTITION.topic, b"second", partition=0)
        assert await fault.hits() == 2
    assert await broker.values() == [b"first", b"second"]


async def test_drop_and_delay_select_by_node(broker: Broker) -> None:
    leader = await broker.control.leader(PARTITION.topic, 0)
    elsewhere = await broker.control.drop("Produce", nodes=[1 - leader], count=None)
    here = await broker.control.drop("Produce", nodes=[leader])
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
    assert (await elsewhere.hits(), await here.hits()) == (0, 1)


async def test_a_delayed_request_is_answered_late_and_the_others_in_time(broker: Broker) -> None:
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
        fault = await broker.control.delay("Produce", seconds=0.5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        late = asyncio.create_task(producer.send_and_wait(PARTITION.topic, b"second", partition=0))
        await fault.wait()
        assert await broker.values() == [b"first"]
        assert not late.done()
        await late
        assert loop.time() - began >= 0.5
    assert await broker.values() == [b"first", b"second"]


async def test_clear_ends_all_faults(broker: Broker) -> None:
    await broker.control.fail("Produce", "KAFKA_STORAGE_ERROR", count=None)
    await broker.control.drop(count=None)
    await broker.control.delay("Metadata", seconds=60, count=None)
    await broker.control.clear()
    async with broker.producer() as producer:
        await producer.send_and_wait(PARTITION.topic, b"first", partition=0)
    assert await broker.values() == [b"first"]


async def test_compaction_on_demand(broker: Broker) -> None:
    await broker.create_topic("table", **{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"})
    async with broker.producer() as producer:
        for value in (b"1", b"2", b"3"):
            await producer.send_and_wait("table", value, key=b"key", partition=0)
        await producer.send_and_wait("table", b"last", key=b"other", partition=0)  # the last batch is never compacted
    await broker.control.compact()
    await broker.control.apply_retention()
    assert await broker.values("table") == [b"3", b"last"]


async def test_impossible_commands_are_refused_in_words(broker: Broker) -> None:
    control = broker.control
    with pytest.raises(ControlError, match='no kind of request is named "Produced"'):
        await control.fail("Produced", "NOT_COORDINATOR")
    with pytest.raises(ControlError, match='no error is named "NOT_A_THING"'):
        await control.fail("Produce", "NOT_A_THING")
    with pytest.raises(ControlError, match="Produce answered with REQUEST_TIMED_OUT: the request is applied: true"):
        await control.fail("Produce", "REQUEST_TIMED_OUT")
    with pytest.raises(ControlError, match="JoinGroup answered with REQUEST_TIMED_OUT: the request is applied: false"):
        await control.fail("JoinGroup", "REQUEST_TIMED_OUT", applied=True)
    with pytest.raises(ControlError, match="name the kinds"):
        await control.fail(applied=True)
    with pytest.raises(ValueError, match="count"):
        await control.drop("Fetch", count=0)
    with pytest.raises(ControlError, match="unknown op"):
        await control.ask("explode")
    with pytest.raises(ControlError, match="unknown field"):
        await control.ask("clear", {"nonsense": 1})


async def test_a_wait_for_what_does_not_happen_ends(broker: Broker) -> None:
    fault = await broker.control.fail("Produce", "KAFKA_STORAGE_ERROR")
    with pytest.raises(TimeoutError, match=r"met 0 of 1 requests in 0\.05 s"):
        await fault.wait(timeout=0.05)


async def test_the_channel_of_a_stack(tmp_path: Path) -> None:
    async with EmbeddedStack(control=True) as stack:
        assert stack.control is not None
        control = BrokerControl(stack.control, stack.control_token)
        await control.clear()
        with pytest.raises(ControlError, match="one broker"):
            await control.move_coordinator(GROUP)
        await stack.restart_kafka()
        await control.clear()
    with pytest.raises(ControlError, match="no answer"):
        await control.clear()


@pytest.mark.parametrize(
    "words",
    [
        b'{"op": "clear"}\n',
        b'{"op": "clear", "token": "another token of 20 letters"}\n',
        b'POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"op": "clear", "token": "a token of the test"}\n',
    ],
    ids=["no token", "wrong token", "a browser"],
)
async def test_the_channel_obeys_only_those_who_know_its_token(broker: Broker, words: bytes) -> None:
    fault = await broker.control.fail("Produce", "KAFKA_STORAGE_ERROR")
    host, _, port = broker.control.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words)
    answers = (await reader.read()).splitlines()
    writer.close()
    assert [json.loads(answer)["ok"] for answer in answers] == [False]
    assert await fault.hits() == 0, "it is still there"


async def test_without_a_token_there_is_no_channel() -> None:
    async with serving("--control", "127.0.0.1:0") as process:
        assert process.stderr is not None
        assert b"DEVBROKER_CONTROL_TOKEN" in await process.stderr.read()
        assert await process.wait() == 1
