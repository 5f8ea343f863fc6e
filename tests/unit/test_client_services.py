"""The client's services: ready or refused, never silently gone, and started again after a failure."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.support.client_bench import ClientBench
from tests.support.poll import eventually
from tests.support.service_contract import exercise_service
from yadtq.client.background import Background
from yadtq.client.registrar import Registrar
from yadtq.client.waiters import Waiters
from yadtq.errors import ConfigError, ServiceFailed, StoreUnavailable
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.restarting import Restarting
from yadtq.runtime.service import Service
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.client.client import Client
    from yadtq.store.verbs import DataSet


class Loop(Service):
    """Runs until it is stopped, or told by `fail` to raise or (None) to end. `broken`: raises before it is ready."""

    name = "loop"

    def __init__(self) -> None:
        self.starts = 0
        self.broken: Exception | None = None
        self.silent = False
        self._end = asyncio.Event()
        self._error: Exception | None = None

    def fail(self, error: Exception | None) -> None:
        self._error = error
        self._end.set()

    def stop(self) -> None:
        self._end.set()

    async def run(self, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        self.starts += 1
        if self.broken is not None:
            raise self.broken
        if not self.silent:
            task_status.started()
        await self._end.wait()
        if self._error is not None:
            self._end.clear()
            error, self._error = self._error, None
            raise error


def restarting(loop: Loop, failures: list[ServiceFailed]) -> Restarting:
    return Restarting(loop, SystemClock(), random.Random(3), on_failure=failures.append)


class TestRestarting:
    async def test_it_keeps_the_service_contract(self) -> None:
        await exercise_service(lambda: restarting(Loop(), []))

    async def test_a_failure_is_told_at_once_and_the_service_runs_again(self) -> None:
        loop = Loop()
        failures: list[ServiceFailed] = []
        service = restarting(loop, failures)
        async with anyio.create_task_group() as group:
            await group.start(service.run)
            loop.fail(KeyError("a"))
            await eventually(lambda: loop.starts == 2)
            (failure,) = failures
            assert (failure.service, isinstance(failure.__cause__, KeyError)) == ("loop", True)
            loop.fail(ExceptionGroup("several", [ValueError("first"), KeyError("second")]))
            await eventually(lambda: loop.starts == 3)
            assert "ValueError: first" in str(failures[1])
            service.stop()

    async def test_one_that_ends_by_itself_has_failed_too(self) -> None:
        loop = Loop()
        failures: list[ServiceFailed] = []
        service = restarting(loop, failures)
        async with anyio.create_task_group() as group:
            await group.start(service.run)
            loop.fail(None)
            await eventually(lambda: len(failures) == 1)
            assert "by itself" in str(failures[0])
            service.stop()

    @pytest.mark.parametrize("error", [ConfigError("wrong"), StoreUnavailable("away")])
    async def test_before_it_is_ready_the_error_is_raised(self, error: Exception) -> None:
        loop = Loop()
        loop.broken = error
        with pytest.raises(type(error)):
            await restarting(loop, []).run()
        assert loop.starts == 1

    async def test_before_it_is_ready_any_other_error_gets_the_name_of_the_service(self) -> None:
        loop = Loop()
        loop.broken = KeyError("a")
        with pytest.raises(ServiceFailed, match="'loop' failed: KeyError"):
            await restarting(loop, []).run()


class TestBackground:
    async def test_what_is_never_ready_is_not_waited_for(self) -> None:
        loop = Loop()
        loop.silent = True
        background = Background([loop])
        with pytest.raises(ServiceFailed, match=r"within 0\.05 s"):
            await background.start(0.05)
        await background.aclose(0.0)

    async def test_a_cancelled_start_leaves_nothing(self) -> None:
        loop = Loop()
        loop.silent = True
        background = Background([loop])
        start = asyncio.create_task(background.start(10.0))
        await eventually(lambda: loop.starts)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert [task for task in asyncio.all_tasks() if task.get_name() == "yadtq-client"] == []


@pytest.fixture
def bench() -> ClientBench:
    return ClientBench()


@pytest.fixture
async def client(bench: ClientBench) -> AsyncIterator[Client]:
    async with bench.client() as connected:
        yield connected


class TestRealServices:
    async def test_waiters_keep_the_contract(self, bench: ClientBench) -> None:
        await exercise_service(lambda: Waiters(bench.outside, bench.app.settings))

    async def test_the_registrar_keeps_the_contract(self, bench: ClientBench) -> None:
        await exercise_service(lambda: Registrar(bench.store, bench.outside.clock, 0.3))


class TestClient:
    async def test_a_service_that_fails_while_starting_is_an_error_of_start(
        self, bench: ClientBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> Loop:
            loop = Loop()
            loop.broken = RuntimeError("no")
            return loop

        monkeypatch.setattr(bench.store, "hear_ends", broken)
        async with asyncio.timeout(3):
            with pytest.raises(ServiceFailed, match="waiters"):
                async with bench.client():
                    pass

    async def test_one_that_fails_later_fails_those_who_wait_and_runs_again(
        self, bench: ClientBench, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handle = await bench.work.submit(1)
        waiting = asyncio.create_task(handle.result())
        await eventually(lambda: len(client._waiters) == 1)

        async def broken() -> DataSet:
            raise RuntimeError("what nobody has thought of")

        with monkeypatch.context() as patch:
            patch.setattr(bench.store, "data_set", broken)
            client._waiters._recheck_now.set()
            with pytest.raises(ServiceFailed, match="nobody has thought of"):
                async with asyncio.timeout(3):
                    await waiting
        again = asyncio.create_task(handle.result())
        await bench.end(handle.id, S.SUCCESS, b"5")
        async with asyncio.timeout(3):
            assert await again == 5

    async def test_a_registrar_that_fails_refuses_submits_until_it_works(
        self, bench: ClientBench, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(task_ids: object, data_set: str) -> bool:
            raise RuntimeError("what nobody has thought of")

        with monkeypatch.context() as patch:
            patch.setattr(bench.store.tasks, "register", broken)
            handle = await bench.work.submit(1)
            with pytest.raises(ServiceFailed, match="registrar"):
                await handle.status()
            with pytest.raises(StoreUnavailable, match="nothing was sent"):
                await bench.work.submit(2)

        async def accepted() -> bool:
            return bool(await bench.work.submit(3))

        await eventually(accepted)
        assert await handle.status() is S.QUEUED, "what was accepted before is registered, too"

    async def test_status_has_a_deadline_though_the_registrar_hangs(
        self, bench: ClientBench, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        never = asyncio.Event()

        async def hangs(*of_the_call: object) -> None:
            await never.wait()

        monkeypatch.setattr(bench.store.tasks, "register", hangs)
        handle = await bench.work.submit(1)
        async with asyncio.timeout(3):
            with pytest.raises(StoreUnavailable, match=r"registered within 0\.3 s"):
                await handle.status()
        never.set()

    async def test_in_another_loop_it_says_so(self, bench: ClientBench, client: Client) -> None:
        async def elsewhere() -> None:
            for call in (client.submit(bench.work, 1), client.status("a"), client.result("a"), client.handle("a")):
                with pytest.raises(ConfigError, match="another event loop"):
                    await call

        await asyncio.to_thread(asyncio.run, elsewhere())

    async def test_closed_while_it_starts(self, bench: ClientBench, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = asyncio.Event()

        async def slow() -> None:
            await opened.wait()

        monkeypatch.setattr(bench.store, "start", slow)
        context = bench.client()
        starting = asyncio.create_task(context.__aenter__())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert [task for task in asyncio.all_tasks() if task.get_name() == "yadtq-client"] == []
