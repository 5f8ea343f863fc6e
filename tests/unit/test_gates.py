"""What may not be claimed yet: suspects but one, names that nobody knows, sync tasks without a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.apps import make_attempt, make_delivery
from yadtq import Yadtq
from yadtq.delivery.delivery import On, Until
from yadtq.delivery.gates.suspects import SuspectGate
from yadtq.delivery.gates.threads import THREAD, ThreadGate
from yadtq.delivery.gates.unknown import UnknownTasks
from yadtq.execution.quarantine.quarantine import Unconfined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    import pytest

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.outcome import Outcome

app = Yadtq("gates")


@app.task
async def in_the_loop() -> None: ...


@app.task
def in_a_thread() -> None: ...


class Places:
    """`Suspects` with a number of places."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.inside: set[str] = set()
        self.on_free = lambda: None

    def admit(self, task_id: str, crashes: int) -> bool:
        if len(self.inside) < self.free:
            self.inside.add(task_id)
        return task_id in self.inside

    def dismiss(self, task_id: str) -> None:
        self.inside.discard(task_id)

    def places(self) -> int:
        return self.free - len(self.inside)

    async def outcome(self, attempt: Attempt, plain: Callable[[Attempt], Awaitable[Outcome]]) -> Outcome:
        raise NotImplementedError


class TestSuspects:
    def test_concern_no_task_as_such(self) -> None:
        gate = SuspectGate(Places(1))
        assert not any(gate.concerns(task) for task in (None, in_the_loop, in_a_thread))

    def test_no_more_than_there_are_places(self) -> None:
        gate, first, second = SuspectGate(Places(1)), make_delivery(), make_delivery()
        for delivery in (first, second):
            gate.suspected(delivery, 1)
            gate.suspected(delivery, 1)
            assert delivery.gates == (gate,), "once is enough"
        assert gate.ask(first, 0.0) is None
        assert gate.allowance() == 1
        assert gate.allowance() == 0, "for one claim only"
        refused = gate.ask(second, 0.0)
        assert isinstance(refused, On)
        assert gate.allowance() == 0
        assert gate.came_back(first) == refused.key
        assert gate.ask(second, 0.0) is None
        assert gate.allowance() == 1

    def test_a_claim_may_grant_as_many_unheard_of_as_there_are_places_left(self) -> None:
        gate, known = SuspectGate(Places(5)), make_delivery()
        gate.suspected(known, 1)
        assert gate.allowance() == 5
        assert gate.ask(known, 0.0) is None
        assert gate.allowance() == 5, "four free places, and the one that was let go"

    def test_without_child_processes_the_first_crash_holds_nobody_back(self) -> None:
        gate, first, second = SuspectGate(Unconfined()), make_delivery(), make_delivery()
        for crashes in (1, 2):
            gate.suspected(first, crashes)
            gate.suspected(second, crashes)
            assert gate.ask(first, 0.0) is None
            assert (gate.ask(second, 0.0) is None) == (crashes == 1)
        gate.came_back(second)
        assert isinstance(gate.ask(second, 0.0), On), "it came back for another reason, such as an outage"
        gate.came_back(first)
        assert gate.ask(second, 0.0) is None


class TestUnknownTasks:
    def test_concern_names_that_no_code_here_knows(self) -> None:
        gate = UnknownTasks(30.0)
        assert [gate.concerns(task) for task in (None, in_the_loop, in_a_thread)] == [True, False, False]

    def test_wait_for_a_deploy_from_their_arrival_on(self, caplog: pytest.LogCaptureFixture) -> None:
        gate, delivery = UnknownTasks(30.0), make_delivery(None, name="nobody")
        assert gate.ask(delivery, 0.0) == Until(1.0)
        assert gate.ask(delivery, 29.0) == Until(1.0)
        assert gate.ask(delivery, 30.0) is None
        assert "nobody" in caplog.text
        assert gate.came_back(delivery) is None


class Threads:
    """As many as said, of which some hang."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.hanging: list[Attempt] = []

    def left_behind(self) -> Collection[Attempt]:
        return self.hanging


class TestThreads:
    def test_concern_sync_tasks(self) -> None:
        gate = ThreadGate(Threads(1))  # type: ignore[arg-type]
        assert [gate.concerns(task) for task in (None, in_the_loop, in_a_thread)] == [False, False, True]

    def test_as_many_go_as_there_are_threads(self) -> None:
        gate = ThreadGate(Threads(2))  # type: ignore[arg-type]
        first, second, third = (make_delivery(in_a_thread) for _ in range(3))
        assert gate.ask(first, 0.0) is None
        assert gate.ask(second, 0.0) is None
        assert gate.ask(third, 0.0) == On(THREAD)
        assert gate.came_back(second) == THREAD
        assert gate.ask(third, 0.0) is None

    def test_less_those_that_hang_in_a_function_that_nobody_can_stop(self) -> None:
        threads = Threads(2)
        gate = ThreadGate(threads)  # type: ignore[arg-type]
        first, second = make_delivery(in_a_thread), make_delivery(in_a_thread)
        assert gate.ask(first, 0.0) is None
        gate.came_back(first)  # its time was over, but the function goes on
        threads.hanging.append(make_attempt(in_a_thread))
        assert gate.ask(second, 0.0) is None
        assert gate.ask(first, 0.0) == On(THREAD)
        threads.hanging.clear()
        assert gate.ask(first, 0.0) is None
