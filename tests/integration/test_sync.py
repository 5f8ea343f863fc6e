"""The blocking client against a bare `python -m yadtq.worker`, as in the README."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.poll import eventually_blocking
from yadtq import ConfigError, InvalidArguments, TaskFailed, TaskNotFound, TaskStatus
from yadtq.examples import app as examples
from yadtq.examples import flaky, slow
from yadtq.sync import YADTQClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.stacks import Servers


@pytest.fixture(scope="module")
def worker(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Runs as long as this module's tests; gives the environment that it runs in."""
    env = {**os.environ, "YADTQ_KAFKA": stack.kafka, "YADTQ_REDIS": stack.redis, "PYTHONWARNINGS": "error"}
    log: Path = tmp_path_factory.mktemp("worker") / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "yadtq.worker"], env=env, stderr=stderr)
    try:
        eventually_blocking(lambda: " runs, queues" in log.read_text(), timeout=40, what=log.read_text())
        yield env
    finally:
        process.terminate()
        assert process.wait(40) == 0


@pytest.fixture
def client(stack: Servers, worker: dict[str, str]) -> Iterator[YADTQClient]:
    with YADTQClient(num_partitions=4, kafka=stack.kafka, redis=stack.redis) as client:
        yield client


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "yadtq-default"]


@pytest.mark.smoke
def test_the_example_of_the_readme(client):
    task_id = client.submit_task("addition", args=[100, 25])
    assert isinstance(task_id, str)
    assert client.get_result(task_id, timeout=30) == 125
    assert client.get_status(task_id) is TaskStatus.SUCCESS


def test_options_by_name(client, app_name):
    assert client.get_result(client.submit_task("flaky", [1], retries=1), timeout=30) == 2
    with pytest.raises(TaskFailed, match="attempt 1 of 1"):
        client.get_result(client.submit_task("flaky", kwargs={"fail_times": 1}, retries=0), timeout=30)
    with pytest.raises(TaskFailed, match="TaskTimeout"):
        client.get_result(client.submit_task("slow", [60], timeout=0.2, retries=0), timeout=30)
    own_id = f"id-{app_name}"
    assert client.submit_task("addition", [1, 1], task_id=own_id) == own_id
    assert client.submit_task("addition", [2, 2], task_id=own_id) == own_id  # never run, as the id is known
    assert client.get_result(own_id, timeout=30) == 2


def test_tasks_instead_of_names(client):
    assert client.get_result(client.submit_task(flaky.options(retries=1), [1]), timeout=30) == 2
    with pytest.raises(InvalidArguments):
        client.submit_task(slow, ["long"])


def test_a_given_app_knows_its_tasks(stack, worker):
    with YADTQClient(app=examples, kafka=stack.kafka, redis=stack.redis) as client:
        with pytest.raises(InvalidArguments):
            client.submit_task("addition", ["a", "b"])
        assert client.get_result(client.submit_task("addition", [1, 2]), timeout=30) == 3


@pytest.mark.smoke
def test_many(client):
    ids = client.submit_many(
        "addition", [(number, 1) if number % 2 else {"x": number, "y": 1} for number in range(200)]
    )
    assert [client.get_result(task_id, timeout=30) for task_id in ids] == list(range(1, 201))


def test_from_many_threads(client):
    def work(number: int) -> int:
        return client.get_result(client.submit_task("addition", [number, number]), timeout=30)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(100))) == [2 * number for number in range(100)]


async def test_inside_a_running_loop(client):
    """As in a notebook. The loop stands still meanwhile, which is what blocking means."""
    assert client.get_result(client.submit_task("addition", [2, 3]), timeout=30) == 5
    assert await asyncio.to_thread(client.get_result, client.submit_task("addition", [3, 3]), 30) == 6


def test_errors_of_a_task_and_of_a_wait(client):
    with pytest.raises(TaskFailed, match="on purpose"):
        client.get_result(client.submit_task("failing"), timeout=30)
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        client.get_result(client.submit_task("slow", [0.5]), timeout=0.1)
    with pytest.raises(TaskNotFound):
        client.get_status("never-submitted")


def test_workers(client):
    (beat,) = eventually_blocking(client.workers, timeout=10)
    assert (beat.phase, beat.queues) == ("running", ("default",))


def test_a_waiting_call_can_be_interrupted(client):
    task_id = client.submit_task("slow", [4])

    def interrupt() -> None:
        eventually_blocking(lambda: client.get_status(task_id) is TaskStatus.IN_PROGRESS)
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        client.get_result(task_id, timeout=30)
    helper.join()
    assert client.get_result(task_id, timeout=30) == 4  # the client is as good as new


def test_after_close(client):
    client.close()
    client.close()
    for call in (
        lambda: client.submit_task("addition", [1, 1]),
        lambda: client.get_status("x"),
        lambda: client.get_result("x"),
        lambda: client.workers(),
    ):
        with pytest.raises(ConfigError, match="closed"):
            call()
    assert threads() == []


def test_closed_while_another_thread_waits(client):
    task_id = client.submit_task("slow", [60], timeout=0.5, retries=0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get_result, task_id)
        eventually_blocking(lambda: client.get_status(task_id) is TaskStatus.IN_PROGRESS)
        client.close()
        with pytest.raises(ConfigError, match="closed"):
            waiting.result(10)


def test_a_forgotten_client_goes_away(stack, worker):
    forgotten = YADTQClient(kafka=stack.kafka, redis=stack.redis)
    assert len(threads()) == 1
    del forgotten
    gc.collect()
    eventually_blocking(lambda: not threads())


def _use(client: YADTQClient, answers: multiprocessing.SimpleQueue[str]) -> None:
    try:
        answers.put(client.submit_task("addition", [1, 1]))
    except ConfigError as error:
        answers.put(str(error))


def test_after_a_fork(client):
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=_use, args=(client, answers))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert "make one in each process" in answers.get()
    assert client.get_result(client.submit_task("addition", [1, 1]), timeout=30) == 2


SCRIPT = """
from yadtq.sync import YADTQClient
client = YADTQClient()
print(client.get_result(client.submit_task("addition", args=[100, 25]), timeout=30))
"""


def test_a_script_that_never_closes_ends_without_a_word(worker):
    done = subprocess.run([sys.executable, "-X", "dev", "-c", SCRIPT], env=worker, capture_output=True, timeout=60)
    # asyncio's debug mode tells of slow callbacks; everything else would be a leak.
    said = [line for line in done.stderr.decode().splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, done.stdout, said) == (0, b"125\n", [])
