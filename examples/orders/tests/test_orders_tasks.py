"""The tasks, on servers in memory and with time that the test moves on."""

import pytest
from orders.app import app
from orders.shared import State
from orders.tasks.payments import charge

from yadtq import TaskFailed
from yadtq.testing import running


async def test_a_paid_order_is_confirmed(state: State) -> None:
    async with running(app) as world:
        handle = await charge.submit("17", 1999, "ann@example.org")
        assert await handle.result(timeout=5) == "order 17 is paid"
        await world.advance(1)
        assert [each.task for each in world.submits] == ["charge", "confirm"]
    assert state.sent == ["ann@example.org: order 17 is paid"]


async def test_a_closed_bank_is_asked_again(state: State) -> None:
    state.bank.closed_for = 3
    async with running(app) as world:
        handle = await charge.submit("17", 1999, "ann@example.org")
        await world.advance(3600)
        await handle.result(timeout=5)
    assert list(state.bank.charged.values()) == [1999]


async def test_nothing_to_pay_is_not_tried_again() -> None:
    async with running(app):
        handle = await charge.submit("17", 0, "ann@example.org")
        with pytest.raises(TaskFailed, match="costs nothing") as failed:
            await handle.result(timeout=5)
    assert failed.value.attempt == 1
