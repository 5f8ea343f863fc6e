"""Services start in order, and one that ends unasked ends them all, by name."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import TaskStatus

from tests.support.service_contract import exercise_service
from yadtq.runtime.service import Service, ServiceEnded, start_services


class Loop(Service):
    """A service as they all are."""

    def __init__(self, name: str = "loop", diary: list[str] | None = None) -> None:
        self.name = name
        self.diary = diary if diary is not None else []
        self._stopped = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self.diary.append(f"{self.name} starts")
        await anyio.lowlevel.checkpoint()
        self.diary.append(f"{self.name} ready")
        task_status.started()
        await self.work()

    async def work(self) -> None:
        await self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()


class Returns(Loop):
    async def work(self) -> None:
        await anyio.lowlevel.checkpoint()


class Raises(Loop):
    async def work(self) -> None:
        raise ValueError("broken")


async def test_each_starts_when_the_one_before_is_ready() -> None:
    diary: list[str] = []
    services = [Loop(name, diary) for name in ("one", "two", "three")]
    async with anyio.create_task_group() as group:
        await start_services(group, services, stopping=lambda: True)
        assert diary == [f"{name} {what}" for name in ("one", "two", "three") for what in ("starts", "ready")]
        for service in services:
            service.stop()


async def test_an_expected_end_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    stopping = False
    service = Loop()
    async with anyio.create_task_group() as group:
        await start_services(group, [service], stopping=lambda: stopping)
        stopping = True
        service.stop()
    assert not caplog.records


async def test_an_unexpected_end_ends_all_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    other = Loop("other")
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
        async with anyio.create_task_group() as group:
            await start_services(group, [other, Returns("quitter")], stopping=lambda: False)
            await anyio.sleep_forever()
    assert [(type(error), str(error)) for error in caught.value.exceptions] == [(ServiceEnded, "quitter")]
    assert "quitter ended by itself" in caplog.text


@pytest.mark.parametrize("stopping", [False, True])
async def test_an_error_ends_all_and_is_logged_with_the_name(caplog: pytest.LogCaptureFixture, stopping: bool) -> None:
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
        async with anyio.create_task_group() as group:
            await start_services(group, [Loop(), Raises("faulty")], stopping=lambda: stopping)
            await anyio.sleep_forever()
    assert caught.group_contains(ValueError, match="broken")
    assert "service faulty failed" in caplog.text


async def test_a_failure_at_the_start_starts_no_more() -> None:
    class NeverReady(Loop):
        async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
            raise ConnectionError("no server")

    diary: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            await start_services(group, [NeverReady("first"), Loop("second", diary)], stopping=lambda: False)
    assert caught.group_contains(ConnectionError)
    assert diary == []


async def test_a_service_as_it_should_be_passes_the_contract() -> None:
    await exercise_service(Loop)


class Deaf(Loop):
    """Does not hear a stop that comes before it runs."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._stopped = anyio.Event()
        await super().run(task_status=task_status)


class Once(Loop):
    def stop(self) -> None:
        if self._stopped.is_set():
            raise RuntimeError("stopped twice")
        super().stop()


class Nameless(Loop):
    def __init__(self) -> None:
        super().__init__(name="")


@pytest.mark.parametrize("broken", [Deaf, Once, Nameless, Returns, Raises])
async def test_one_that_breaks_the_contract_fails_it(broken: type[Loop]) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)):
        await exercise_service(broken, within_s=0.2)
