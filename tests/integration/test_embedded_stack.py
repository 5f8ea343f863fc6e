"""EmbeddedStack on its real servers: what survives, what is left behind (nothing), and who may share a folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import psutil
import pytest
import redis.asyncio as redis_client
import redis.exceptions
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.support.poll import eventually
from yadtq.broker.connecting import connection_options
from yadtq.embedded import DataDirInUse, EmbeddedStack, ServerStartFailed
from yadtq.embedded.ports import pick_port
from yadtq.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

PARTITION = TopicPartition("events", 0)

PARENT = """
import asyncio, json, os, signal, sys
import psutil
from yadtq.embedded import EmbeddedStack

async def main(data_dir, forked, frozen):
    async with EmbeddedStack(data_dir) as stack:
        pids = [child.pid for child in psutil.Process().children(recursive=True)]
        child = os.fork() if forked else 0
        if forked and not child:
            signal.pause()
        if frozen:
            stack.broker.freeze()
            stack.store.freeze()
        print(json.dumps({"pids": pids, "forked": child}), flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1] or None, "forked" in sys.argv, "frozen" in sys.argv))
"""


#: Servers of the whole test session, which are no leftovers of the test at hand.
_before: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def note_processes() -> None:
    _before.clear()
    _before.update(psutil.Process().children(recursive=True))


def descendants() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if process not in _before]


def alive(pids: list[int]) -> list[int]:
    """Those that still run: a zombie has ended, though nobody may ever ask for its status."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            pass
    return found


def login(stack: EmbeddedStack) -> dict[str, Any]:
    return connection_options(Settings.load(**stack.settings))


@asynccontextmanager
async def producing(stack: EmbeddedStack) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**login(stack), acks="all", enable_idempotence=True) as producer:
        yield producer


async def create_topic(stack: EmbeddedStack) -> None:
    admin = AIOKafkaAdminClient(**login(stack))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(PARTITION.topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


@asynccontextmanager
async def consuming(stack: EmbeddedStack) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **login(stack), group_id="readers", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.assign([PARTITION])
    async with consumer:
        yield consumer


async def read_value(stack: EmbeddedStack, key: str) -> str | bytes | None:
    async with redis_client.from_url(stack.redis, socket_timeout=2) as client:
        return await client.get(key)


async def write_value(stack: EmbeddedStack, key: str, value: str) -> None:
    async with redis_client.from_url(stack.redis) as client:
        await client.set(key, value)


async def fill(stack: EmbeddedStack) -> None:
    """Two records, of which the group has committed the first; one key."""
    await create_topic(stack)
    async with producing(stack) as producer:
        for value in (b"first", b"second"):
            await producer.send_and_wait(PARTITION.topic, value, partition=0)
    async with consuming(stack) as consumer:
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"first"
        await consumer.commit({PARTITION: 1})
    await write_value(stack, "answer", "42")


async def check_filled(stack: EmbeddedStack) -> None:
    async with consuming(stack) as consumer:
        assert await consumer.end_offsets([PARTITION]) == {PARTITION: 2}
        assert await consumer.committed(PARTITION) == 1
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"second"
    assert await read_value(stack, "answer") == b"42"


@asynccontextmanager
async def parent_process(data_dir: Path | str = "", *how: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """A Python process that has a stack open, and what it says of its processes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(data_dir), *how, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    told = {"forked": 0}
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        yield process, told
    finally:
        if process.returncode is None:
            process.kill()
        if told["forked"]:
            os.kill(told["forked"], signal.SIGKILL)
        await process.stdout.read()
        await process.wait()


async def test_both_servers_answer_and_nothing_is_left_behind(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    async with EmbeddedStack() as stack:
        took_ms = (time.perf_counter() - began) * 1000
        await fill(stack)
        await check_filled(stack)
        assert stack.env == {f"YADTQ_{name.upper()}": value for name, value in stack.settings.items()}
        assert (stack.settings["kafka"], stack.settings["redis"]) == (stack.kafka, stack.redis)
        assert stack.control is None
        assert {stack.broker.pid, stack.store.pid} < {process.pid for process in descendants()}
        async with redis_client.from_url(stack.redis) as client:
            config = await client.config_get("maxmemory-policy", "appendonly", "bind", "save")
        assert config == {"maxmemory-policy": "noeviction", "appendonly": "yes", "bind": "127.0.0.1", "save": ""}
        folder = anyio.Path(stack.data_dir)
        assert await folder.is_dir()
    with capsys.disabled():
        print(f" [start: {took_ms:.0f} ms] ", end="")
    assert not await folder.exists()
    assert descendants() == []


async def test_both_servers_ask_for_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    passwords = set()
    for _ in range(2):  # the second time with the data of the first
        async with EmbeddedStack(tmp_path) as stack:
            assert stack.open_servers == []
            found = {stack.settings["kafka_password"], urlsplit(stack.redis).password or ""}
            passwords |= found
            await fill(stack) if len(passwords) == 2 else await check_filled(stack)
            stranger = AIOKafkaProducer(bootstrap_servers=stack.kafka)
            with pytest.raises(KafkaError):
                await stranger.start()
            await stranger.stop()
            async with redis_client.from_url(f"redis://127.0.0.1:{stack.store.port}/0") as client:
                with pytest.raises(redis_client.AuthenticationError):
                    await client.get("answer")
            shown = [word for process in descendants() for word in process.cmdline()]
            assert not [word for word in shown if any(password in word for password in found)]
    assert len(passwords) == 4


async def test_a_kept_folder_brings_everything_back(tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path) as stack:
        await fill(stack)
    async with EmbeddedStack(tmp_path) as stack:
        await check_filled(stack)


@pytest.mark.parametrize("kept", [True, False])
async def test_killed_servers_come_back_on_their_ports_with_their_data(tmp_path: Path, kept: bool) -> None:
    async with EmbeddedStack(tmp_path if kept else None) as stack:
        await fill(stack)
        addresses = (stack.kafka, stack.redis)
        pids = (stack.broker.pid, stack.store.pid)
        for server in (stack.broker, stack.store):
            await server.kill()
            assert not server.running
            assert server.pid is None
        with pytest.raises(redis.exceptions.ConnectionError):
            await read_value(stack, "answer")
        for server in (stack.broker, stack.store):
            await server.start()
        assert (stack.kafka, stack.redis) == addresses
        assert not {stack.broker.pid, stack.store.pid} & set(pids)
        await check_filled(stack)


async def test_restart_keeps_ports_data_and_connected_clients() -> None:
    async with EmbeddedStack(brokers=2) as stack:
        await fill(stack)
        ports = (stack.broker.ports, stack.store.ports)
        async with producing(stack) as producer:
            await stack.restart_kafka()
            await stack.restart_redis()
            await asyncio.wait_for(producer.send_and_wait(PARTITION.topic, b"third", partition=0), 20)
        assert (stack.broker.ports, stack.store.ports) == ports
        assert await read_value(stack, "answer") == b"42"


async def test_a_server_that_dies_by_itself_is_seen_and_can_be_started_again() -> None:
    async with EmbeddedStack() as stack:
        assert stack.store.pid is not None
        os.kill(stack.store.pid, signal.SIGKILL)
        await eventually(lambda: not stack.store.running, what="the death is noticed")
        with pytest.raises(RuntimeError, match="not running"):
            stack.store.freeze()
        await stack.store.start()
        assert await read_value(stack, "nothing") is None


async def test_a_frozen_server_keeps_connections_and_answers_after_the_thaw() -> None:
    async with EmbeddedStack() as stack:
        await write_value(stack, "answer", "42")
        stack.store.freeze()
        stack.broker.freeze()
        assert stack.store.running
        with pytest.raises(redis.exceptions.TimeoutError):
            async with redis_client.from_url(stack.redis, socket_timeout=0.2) as client:
                await client.get("answer")
        stack.store.thaw()
        assert await read_value(stack, "answer") == b"42"
        # The broker stays frozen: the end of the block must not wait for it.
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert descendants() == []


@pytest.mark.parametrize("how", [(), ("frozen",), ("forked",)], ids=["plain", "frozen servers", "pipe held by a fork"])
async def test_sigkill_of_the_parent_leaves_no_process(tmp_path: Path, how: tuple[str, ...]) -> None:
    async with parent_process(tmp_path, *how) as (process, told):
        assert len(told["pids"]) == 4
        assert alive(told["pids"]) == told["pids"]
        began = time.perf_counter()
        process.kill()
        await eventually(lambda: not alive(told["pids"]), timeout=15, what="all servers and guards have ended")
        print(f"all ended {time.perf_counter() - began:.3f} s after SIGKILL of the parent")


async def test_sigkill_of_a_guard_takes_its_server_along() -> None:
    async with EmbeddedStack() as stack:
        pids = [pid for pid in (stack.broker.pid, stack.store.pid) if pid]
        stack.broker.freeze()
        stack.store.freeze()
        for pid in pids:
            guard = psutil.Process(pid).parent()
            assert guard is not None
            guard.kill()
        await eventually(lambda: not alive(pids), what="the servers have died with their guards")


async def test_a_new_stack_waits_for_the_servers_of_a_killed_one(tmp_path: Path) -> None:
    async with parent_process(tmp_path) as (process, told):
        process.kill()
        await process.wait()
        async with EmbeddedStack(tmp_path) as stack:
            assert alive(told["pids"]) == []
            await fill(stack)


async def test_two_stacks_cannot_share_a_folder(tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path) as stack:
        await write_value(stack, "answer", "42")
        with pytest.raises(DataDirInUse) as caught:
            async with EmbeddedStack(tmp_path):
                pass
        assert caught.value.owner_pid == os.getpid()
        assert await read_value(stack, "answer") == b"42"
    async with parent_process(tmp_path) as (process, _):
        with pytest.raises(DataDirInUse, match=str(process.pid)):
            async with EmbeddedStack(tmp_path):
                pass


async def test_a_start_cancelled_at_any_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = 0
    # The moments are spread over the 50 ms that a start takes.
    for after_ms in range(0, 80, 4):
        try:
            async with asyncio.timeout(after_ms / 1000):
                async with EmbeddedStack():
                    opened += 1
                    await asyncio.Event().wait()
        except TimeoutError:
            pass
        assert descendants() == []
        assert os.listdir(tmp_path) == []
    print(f"{opened} of 20 starts were faster than their cancellation")


@pytest.mark.parametrize("server", ["kafka", "redis"])
async def test_a_taken_port_is_reported_with_the_log(tmp_path: Path, server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {f"{server}_port": taken.getsockname()[1]}
        with pytest.raises(ServerStartFailed, match="in use") as caught:
            async with EmbeddedStack(tmp_path, **ports):
                pass
    assert caught.value.server == server
    assert descendants() == []
    async with EmbeddedStack(tmp_path) as stack:  # and the folder is free again
        assert await read_value(stack, "nothing") is None


async def test_wanted_ports_are_used_and_lost_ones_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedStack() as first:
        kafka, redis_port = first.broker.port, first.store.port
        offered = iter([kafka, redis_port])

        # The ports of the running servers first, as when another process takes them between choice and use.
        def pick(taken: Collection[int]) -> int:
            return next(offered, 0) or pick_port(taken)

        monkeypatch.setattr("yadtq.embedded.server.pick_port", pick)
        async with EmbeddedStack() as second:
            await write_value(first, "answer", "first")
            await write_value(second, "answer", "second")
            assert await read_value(first, "answer") == b"first"
            await fill(second)
    async with EmbeddedStack(kafka_port=kafka, redis_port=redis_port) as stack:
        assert (stack.broker.port, stack.store.port) == (kafka, redis_port)


async def test_stacks_side_by_side_do_not_meet() -> None:
    async def one(number: int) -> str | bytes | None:
        async with EmbeddedStack() as stack:
            await write_value(stack, "answer", str(number))
            return await read_value(stack, "answer")

    assert await asyncio.gather(*map(one, range(4))) == [b"0", b"1", b"2", b"3"]
    assert descendants() == []


async def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ServerStartFailed, match=r"not ready within 0\.001 s"):
        async with EmbeddedStack(tmp_path, start_timeout=0.001):
            pass
    assert descendants() == []
