"""The end of a worker: stage by stage, each under its deadline, and none that can't end keeps the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from yadtq.runtime.service import Service, Stage
from yadtq.worker import drain as module
from yadtq.worker.drain import drain, in_order

if TYPE_CHECKING:
    from anyio.abc import TaskStatus as Started


class Toy(Service):
    """Notes what is asked of it. hangs: `drained` does not return by itself. hurries: but after `hurry` it does."""

    def __init__(self, name: str, stage: Stage, notes: list[str], *, hangs: bool = False, hurries: bool = True) -> None:
        self.name = name
        self.stage = stage  # type: ignore[misc]
        self._notes = notes
        self._hurries = hurries
        self._empty = anyio.Event()
        if not hangs:
            self._empty.set()

    def stop(self) -> None:
        self._notes.append(f"{self.name} stop")

    async def drained(self) -> None:
        self._notes.append(f"{self.name} drained?")
        await self._empty.wait()
        self._notes.append(f"{self.name} drained")

    def hurry(self) -> None:
        self._notes.append(f"{self.name} hurry")
        if self._hurries:
            self._empty.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        raise NotImplementedError


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HURRY_S", 0.05)
    monkeypatch.setattr(module, "_OTHERS_S", 0.05)


async def drained(services: list[Service], *, grace_s: float = 5.0, impatient: anyio.Event | None = None) -> None:
    with anyio.fail_after(10):
        await drain(services, grace_s=grace_s, lease_s=5.0, impatient=impatient or anyio.Event())


def all_stages(notes: list[str]) -> list[Service]:
    """Not in order, as in an assembly."""
    return [Toy(stage.name, stage, notes) for stage in (*list(Stage)[3:], *list(Stage)[:3])]


async def test_one_stage_after_the_other_and_each_is_stopped_before_the_next_begins(notes: list[str]) -> None:
    await drained(all_stages(notes))
    expected = [f"{stage.name} {what}" for stage in Stage for what in ("drained?", "drained", "stop")]
    assert notes == expected[:-1], "but the report, which says the last word when all others have ended"


def test_the_start_goes_the_other_way(notes: list[str]) -> None:
    assert [service.stage for service in in_order(all_stages(notes))] == list(Stage)


async def test_services_of_one_stage_keep_their_order(notes: list[str]) -> None:
    await drained([Toy(name, Stage.RUN, notes) for name in ("executor", "unrunnable")])
    assert [note for note in notes if "?" in note] == ["executor drained?", "unrunnable drained?"]


async def test_a_stage_whose_time_is_over_is_hurried_and_asked_once_more(notes: list[str]) -> None:
    await drained([Toy("tasks", Stage.RUN, notes, hangs=True), Toy("outcomes", Stage.OUTCOME, notes)], grace_s=0.02)
    assert notes == [
        "tasks drained?",
        "tasks hurry",
        "tasks drained?",
        "tasks drained",
        "tasks stop",
        "outcomes drained?",
        "outcomes drained",
        "outcomes stop",
    ]


async def test_one_that_does_not_end_even_then_keeps_nobody(notes: list[str], caplog: pytest.LogCaptureFixture) -> None:
    await drained(
        [Toy("tasks", Stage.RUN, notes, hangs=True, hurries=False), Toy("commit", Stage.COMMIT, notes)], grace_s=0.02
    )
    assert notes[-3:] == ["commit drained?", "commit drained", "commit stop"]
    assert "not drained in time: tasks" in caplog.text


async def test_whoever_loses_patience_breaks_off_what_runs_and_nothing_else(notes: list[str]) -> None:
    impatient = anyio.Event()
    impatient.set()
    await drained(
        [
            Toy("intake", Stage.INTAKE, notes),
            Toy("tasks", Stage.RUN, notes, hangs=True),
            Toy("outcomes", Stage.OUTCOME, notes),
        ],
        grace_s=60.0,
        impatient=impatient,
    )
    assert [note for note in notes if "hurry" in note] == ["tasks hurry"]
    assert "outcomes drained" in notes, "how they ended is stored all the same"


async def test_patience_may_be_lost_in_the_middle(notes: list[str]) -> None:
    impatient = anyio.Event()

    class Last(Toy):
        async def drained(self) -> None:
            impatient.set()
            await super().drained()

    await drained([Last("tasks", Stage.RUN, notes, hangs=True)], grace_s=60.0, impatient=impatient)
    assert notes == ["tasks drained?", "tasks hurry", "tasks drained?", "tasks drained", "tasks stop"]


async def test_no_time_at_all_is_a_hurry_at_once(notes: list[str]) -> None:
    await drained([Toy("tasks", Stage.RUN, notes, hangs=True)], grace_s=0.0)
    assert "tasks hurry" in notes
