"""Fixtures for all tests: the servers of the session, private servers to break, and the watch for leaked tasks."""

from __future__ import annotations

import gc
import logging
import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support import fuzzing, kafka_jars, stacks
from tests.support import redis_server as redis_binaries
from tests.support.blocking import blocking_calls
from tests.support.kafka_server import KafkaServer
from tests.support.leak_watch import ErrorCollector, no_task_left, pending_tasks
from tests.support.redis_server import RedisServer
from yadtq.app import load_servers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path


load_servers()  # as each process of ours does before its loop runs: tests make workers inside of one


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=("kafka", "embedded", "both", "secured"),
        help="servers to test against; both: tests marked smoke run on each; secured: with TLS, logins and "
        "least rights, for the smoke set (default: real Kafka where it can be run)",
    )
    parser.addoption("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="event loop of the async tests")


#: Unit tests of what meets the loop itself: its timers, its order of callbacks, transports, threads, child processes. Those
#: of decisions and of parts on doubles would only take their time twice.
ON_UVLOOP = {
    "test_admission",
    "test_assembly",
    "test_attempts",
    "test_client",
    "test_client_services",
    "test_executor",
    "test_kit",
    "test_limits",
    "test_microbatch",
    "test_quarantine",
    "test_service",
    "test_supervisor",
    "test_support_proxy",
    "test_threads",
    "test_worker_services",
}


class OnUvloop:
    """A plugin for `--loop uvloop`: async tests of `ON_UVLOOP` and of the smoke set, on uvloop.

    Registered for that alone, since with it pytest-asyncio parametrises every test.
    """

    def pytest_asyncio_loop_factories(self) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        import uvloop

        return {"uvloop": uvloop.new_event_loop}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept = [item for item in items if pytest_asyncio.is_async_test(item) and self._is_wanted(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    @staticmethod
    def _is_wanted(item: pytest.Item) -> bool:
        return item.get_closest_marker("smoke") is not None or (
            "unit" in item.path.parts and item.path.stem in ON_UVLOOP
        )


def pytest_report_header(config: pytest.Config) -> str:
    option = config.getoption("--stack")
    names: list[stacks.StackName] = ["kafka", "embedded"] if option == "both" else [stacks.choose(option)]
    return "yadtq stack: " + " and ".join(map(stacks.describe, names))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if fuzzing.tried:
        for name, count in fuzzing.tried.items() if fuzzing.MINUTES else ():
            terminalreporter.write_line(f"{count:>11,}  {name}")
        terminalreporter.write_line(f"{sum(fuzzing.tried.values()):>11,}  random inputs tried")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--loop") == "uvloop":
        config.pluginmanager.register(OnUvloop(), "yadtq-uvloop")
    if config.getoption("--stack") == "secured":
        # A TLS connection takes a moment to close, and the loop of a test ends at once.
        config.addinivalue_line("filterwarnings", "ignore:unclosed:ResourceWarning")
    # What a script starts in the background is born deaf to SIGINT, and so are its children: tests that send one would fail.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    smoke = metafunc.definition.get_closest_marker("smoke")
    if smoke and "stack" in metafunc.fixturenames and metafunc.config.getoption("--stack") == "both":
        metafunc.parametrize("stack", ["kafka", "embedded"], indirect=True, scope="session")


def pytest_collection_finish(session: pytest.Session) -> None:
    # Here, as a first download may take longer than the time limit of the test whose fixture it would be part of.
    if not session.config.option.collectonly and _will_run_kafka(session) and kafka_jars.available():
        _fetch_kafka()
    # What was imported so far stays; without it each collection of the leak watch takes a tenth of the time.
    gc.collect()
    gc.freeze()


def _fetch_kafka() -> None:
    try:
        kafka_jars.fetch()
    except kafka_jars.FetchFailed as failure:
        # At home `available` is false from now on, and gives this reason.
        if os.environ.get("CI"):
            pytest.exit(f"cannot fetch Kafka: {failure}", returncode=1)


def _will_run_kafka(session: pytest.Session) -> bool:
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    shared = "stack" in used and stacks.choose(session.config.getoption("--stack")) != "embedded"
    return "kafka_server" in used or (shared and not os.environ.get("YADTQ_TEST_KAFKA"))


@pytest.fixture(scope="session")
def stack_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stacks.StackPool]:
    pool = stacks.StackPool(tmp_path_factory.mktemp("stack"))
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, stack_pool: stacks.StackPool) -> stacks.Servers:
    """Kafka and Redis of this session; tests share them and keep apart by `app_name`."""
    # Cheap on purpose: pytest tears a parametrised session fixture down between its values, the pool keeps the servers.
    name = getattr(request, "param", None) or stacks.choose(request.config.getoption("--stack"))
    return stack_pool.get(name)


@pytest.fixture(autouse=True)
def _real_kafka_only(request: pytest.FixtureRequest) -> None:
    """Tests marked `kafka` must not pass on a stand-in."""
    if request.node.get_closest_marker("kafka") and "stack" in request.fixturenames:
        servers = request.getfixturevalue("stack")
        if servers.kind == "embedded":
            if request.config.getoption("--stack"):  # asked for, so nothing is missing
                pytest.skip("needs a real Apache Kafka, not the embedded stack")
            stacks.missing(f"needs a real Apache Kafka: {stacks.available('kafka').reason}")


@pytest.fixture
def app_name() -> str:
    """Unique, so that no test sees the topics, groups and keys of another."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def kafka_server(tmp_path: Path) -> Iterator[Callable[..., KafkaServer]]:
    """Makes private brokers for tests that break them, not started yet: `await kafka_server().start()`."""
    if not (found := kafka_jars.available()):
        stacks.missing(found.reason)
    made: list[KafkaServer] = []

    def make(**options: Any) -> KafkaServer:
        made.append(KafkaServer(tmp_path / f"kafka-{len(made)}", **options))
        return made[-1]

    yield make
    for server in made:
        server.discard_blocking()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Makes private Redis servers, not started yet."""
    made: list[RedisServer] = []

    def make(**options: Any) -> RedisServer:
        if not (found := redis_binaries.available(options.get("kind"))):
            stacks.missing(found.reason)
        made.append(RedisServer(tmp_path / f"redis-{len(made)}", **options))
        return made[-1]

    yield make
    for server in made:
        server.discard_blocking()


@pytest.fixture(autouse=True)
def asyncio_errors(request: pytest.FixtureRequest) -> Iterator[ErrorCollector]:
    """Fails the test for each ERROR of the asyncio logger, and for tasks that it leaves running."""
    collector = ErrorCollector()
    logger = logging.getLogger("asyncio")
    logger.addHandler(collector)
    # Only tests with a loop get one; and as this is set up first, it looks after all other fixtures have cleaned up.
    asynchronous = _is_async(request)
    if asynchronous:
        request.getfixturevalue("_no_leaked_tasks")
    yield collector
    logger.removeHandler(collector)
    messages = collector.collect() if asynchronous else collector.messages
    if messages:
        pytest.fail("asyncio reported:\n" + "\n".join(messages), pytrace=False)


@pytest.fixture(autouse=True)
def nothing_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails an async test in which our code blocks its loop. System, chaos and bench run our code in other processes."""
    if not _is_async(request) or {"system", "chaos", "bench"} & set(request.path.parts):
        yield
        return
    with blocking_calls() as calls:
        yield
    if calls:
        pytest.fail("the event loop was blocked:\n" + "\n".join(calls), pytrace=False)


def _is_async(request: pytest.FixtureRequest) -> bool:
    return isinstance(request.node, pytest.Item) and pytest_asyncio.is_async_test(request.node)


@pytest.fixture
async def _no_leaked_tasks() -> AsyncIterator[None]:
    known = pending_tasks()
    yield
    await no_task_left(known)
