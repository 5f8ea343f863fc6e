"""`python -m yadtq.supervisor` with real workers, Kafka and Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.poll import consistently, eventually
from tests.support.ports import reserve_port
from yadtq.broker.tail import read_recent
from yadtq.errors import EnvelopeError
from yadtq.settings import Settings
from yadtq.wire.exits import UNREACHABLE
from yadtq.wire.heartbeat import Heartbeat
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.kafka_server import KafkaServer
    from tests.support.redis_server import RedisServer
    from tests.support.stacks import Servers

    Launch = Callable[..., Awaitable["Running"]]

ROOT = Path(__file__).parents[2]
#: In a worker, not in its supervisor.
REFUSAL = """
import sys
from yadtq.errors import ConfigError

if "yadtq.worker" in sys.orig_argv:
    raise ConfigError("no key")
"""


class Running:
    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process, self.log = process, log

    def text(self) -> str:
        return self.log.read_text()

    def facts(self, event: str, fact: str) -> list[str]:
        lines = [line for line in self.text().splitlines() if f"event={event} " in line]
        return [match[1].strip('"') for line in lines if (match := re.search(rf'{fact}=("[^"]*"|\S+)', line))]

    async def event(self, event: str, count: int = 1, timeout: float = 30) -> None:
        try:
            await eventually(lambda: self.text().count(f"event={event} ") >= count, timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{count} events {event!r} expected:\n{self.text()}") from error

    def pid(self, slot: int) -> int:
        pids = zip(self.facts("spawned", "slot"), self.facts("spawned", "pid"), strict=True)
        return [int(pid) for name, pid in pids if name.endswith(f".slot-{slot}")][-1]

    async def end(self, timeout: float = 30) -> int:
        async with asyncio.timeout(timeout):
            return await self.process.wait()


@pytest.fixture
async def launch(stack: Servers, app_name: str, tmp_path: Path) -> AsyncIterator[Launch]:
    (tmp_path / "tasks.py").write_text(f"from yadtq.app import Yadtq\n\napp = Yadtq({app_name!r})\n")
    launched: list[Running] = []

    async def start(*arguments: str, wait: int = 0, **env: str) -> Running:
        log = tmp_path / f"log-{len(launched)}"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "yadtq.supervisor", *(arguments or ("tasks:app",))),
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "XDG_RUNTIME_DIR": str(tmp_path),
                    "YADTQ_KAFKA": stack.kafka,
                    "YADTQ_REDIS": stack.redis,
                    **env,
                },
                stderr=stderr,
            )
        launched.append(Running(process, log))
        if wait:
            await launched[-1].event("ready", wait)
        return launched[-1]

    yield start
    for each in launched:
        if each.process.returncode is None:
            each.process.send_signal(signal.SIGTERM)
            await each.end()
    pids = [int(pid) for each in launched for pid in each.facts("spawned", "pid")]
    await eventually(lambda: not any(map(psutil.pid_exists, pids)), what="the end of all workers")


@pytest.mark.smoke
async def test_a_killed_worker_is_back_with_its_partitions_and_the_others_notice_nothing(
    launch: Launch, stack: Servers, app_name: str
) -> None:
    running = await launch("tasks:app", "--workers", "3", wait=3)
    await eventually(lambda: running.text().count(" runs, queues") == 3, what="three workers")
    await consistently(lambda: True, during=1)  # the last one's join has gone round
    before = running.text()
    os.kill(running.pid(1), signal.SIGKILL)
    await running.event("ready", 4)
    since = running.text()[len(before) :]
    assert running.facts("died", "cause") == ["signal 9"]
    assert float(running.facts("ready", "since_death_s")[0]) < 5
    await eventually(lambda: running.text()[len(before) :].count("assigned partitions") == 1, what="its partitions")
    assert "giving up partitions" not in since
    assert running.facts("certified", "worker") == running.facts("died", "worker")
    settings, topic = Settings.load(kafka=stack.kafka, redis=stack.redis), TopicNames(app_name).heartbeats

    async def announced() -> list[str]:
        return [beat.worker for beat in await heartbeats(settings, topic) if beat.phase == "dead"]

    assert await eventually(announced, what="the announcement") == running.facts("died", "worker")


async def heartbeats(settings: Settings, topic: str) -> list[Heartbeat]:
    found = []
    for record in await read_recent(settings, topic, since_s=60, timeout_s=10):
        try:
            found.append(Heartbeat.decode(record.value))
        except EnvelopeError:
            assert record.key is not None  # a canary
            assert record.key.startswith(b"canary:")
    return found


async def test_the_partitions_of_a_removed_slot_go_to_the_others_at_once(launch: Launch) -> None:
    running = await launch("tasks:app", "--workers", "2", wait=2, YADTQ_SESSION_TIMEOUT_S="30")
    await eventually(lambda: running.text().count(" runs, queues") == 2, what="two workers")
    running.process.send_signal(signal.SIGTTOU)
    await running.event("left-group")
    before = len(running.text())
    await eventually(
        lambda: all(f"', {n})" in running.text()[before:] for n in range(4)), timeout=10, what="all four partitions"
    )


async def test_a_frozen_worker_is_replaced(launch: Launch) -> None:
    running = await launch(
        "tasks:app", "--workers", "2", wait=2, YADTQ_SUPERVISOR_SILENCE_S="2", YADTQ_HEARTBEAT_S="0.2"
    )
    os.kill(running.pid(0), signal.SIGSTOP)
    await running.event("ready", 3)
    assert running.facts("died", "cause") == ["killed after 2 s of silence"]


async def test_two_supervisors_share_a_host(launch: Launch) -> None:
    one = await launch("tasks:app", "--workers", "1", wait=1)
    two = await launch("tasks:app", "--workers", "1", wait=1)
    assert [each.facts("spawned", "slot")[0][-1] for each in (one, two)] == ["0", "1"]
    one.process.send_signal(signal.SIGTERM)
    assert await one.end() == 0
    assert two.process.returncode is None


async def test_wrong_words_are_one_line_and_status_2(launch: Launch) -> None:
    running = await launch("nowhere:app")
    assert await running.end() == 2
    assert running.text().startswith("yadtq: no module named 'nowhere'")
    assert running.text().count("\n") == 1


async def test_wrong_worker_settings_are_found_before_a_worker_is_started(launch: Launch) -> None:
    running = await launch("tasks:app", YADTQ_WORKER_GRACE_S="-1")
    assert await running.end() == 2
    assert running.text().startswith("yadtq: grace_s (YADTQ_WORKER_GRACE_S)")


async def test_workers_that_refuse_their_configuration_end_it_with_status_2(launch: Launch, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.py"
    tasks.write_text(f"{REFUSAL}\n{tasks.read_text()}")
    running = await launch("tasks:app", "--workers", "2")
    assert await running.end() == 2
    assert running.text().count("yadtq: no key") == 2
    assert len(running.facts("spawned", "pid")) == 2
    assert len(running.facts("gave-up", "slot")) == 2


async def test_an_unreachable_broker_is_one_line_and_status_69(launch: Launch) -> None:
    address = f"127.0.0.1:{reserve_port()}"
    running = await launch("tasks:app", "--kafka", address, YADTQ_CONNECT_TIMEOUT_S="1")
    assert await running.end() == UNREACHABLE
    assert running.text().splitlines()[-1].startswith(f"yadtq: Kafka at {address}")


@pytest.mark.slow
async def test_a_worker_that_dies_while_redis_is_away_is_there_again_when_redis_is(
    redis_server: Callable[..., RedisServer], launch: Launch
) -> None:
    redis = redis_server()
    await redis.start()
    words = {"YADTQ_REDIS": redis.url, "YADTQ_CONNECT_TIMEOUT_S": "0.5", "YADTQ_SUPERVISOR_CRASH_BUDGET": "2"}
    running = await launch("tasks:app", "--workers", "1", wait=1, **words)
    await redis.kill()
    os.kill(running.pid(0), signal.SIGKILL)
    await running.event("died", 5)
    assert running.facts("died", "cause")[1:] == ["exit 69"] * 4
    await redis.restart()
    await running.event("ready", 2)
    assert "event=gave-up" not in running.text()


@pytest.mark.slow
async def test_the_later_of_two_supervisors_with_other_lock_folders_takes_other_slots(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "private").mkdir()
    words = {"YADTQ_HEARTBEAT_S": "0.5"}
    one = await launch("tasks:app", "--workers", "2", wait=2, **words)
    two = await launch("tasks:app", "--workers", "2", XDG_RUNTIME_DIR=str(tmp_path / "private"), **words)
    await two.event("slot-twin", 2)
    assert two.facts("slot-twin", "action") == ["yields"] * 2
    # One that is still starting when it is asked dies of the signal.
    await eventually(lambda: len(two.facts("stopped", "pid") + two.facts("died", "pid")) == 2, what="the slots left")
    await eventually(lambda: {slot[-1] for slot in two.facts("ready", "slot")} >= {"2", "3"}, what="two new slots")
    assert sorted(slot[-1] for slot in two.facts("spawned", "slot")[2:]) == ["2", "3"]
    assert set(one.facts("slot-twin", "action")) <= {"stays"}
    assert "event=left-group" not in one.text() + two.text()
    joins = [each.text().count("assigned partitions") for each in (one, two)]
    await consistently(lambda: joins == [each.text().count("assigned partitions") for each in (one, two)], during=3)


async def test_the_addresses_go_to_workers_by_environment(launch: Launch, stack: Servers) -> None:
    """A command line can be read by all users, and the address of Redis may contain a password."""
    words = {"YADTQ_KAFKA": "127.0.0.1:1", "YADTQ_REDIS": "redis://127.0.0.1:1"}
    running = await launch(
        "tasks:app", "--workers", "1", "--redis", stack.redis, "--kafka", stack.kafka, wait=1, **words
    )
    worker = psutil.Process(running.pid(0))
    assert "--redis" not in worker.cmdline()
    assert worker.environ()["YADTQ_SLOT_REDIS"] == stack.redis


@pytest.mark.kafka
@pytest.mark.slow
async def test_an_outage_of_kafka_costs_no_worker_its_life(
    kafka_server: Callable[..., KafkaServer], launch: Launch
) -> None:
    kafka = kafka_server()
    await kafka.start()
    words = {"YADTQ_KAFKA": kafka.address, "YADTQ_SUPERVISOR_SILENCE_S": "2", "YADTQ_HEARTBEAT_S": "0.2"}
    running = await launch("tasks:app", "--workers", "2", wait=2, **words)
    await kafka.freeze()
    os.kill(running.pid(0), signal.SIGSTOP)  # silent by all ways, but that proves nothing now
    await consistently(lambda: running.facts("killing", "pid") == [], during=6)
    await kafka.thaw()
    await running.event("ready", 3)
    assert running.facts("died", "slot") == running.facts("spawned", "slot")[:1]
