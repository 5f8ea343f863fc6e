"""The HTTP interface, without a network."""

from unittest import mock

import httpx
from orders.api import api
from orders.app import app
from orders.shared import State

from yadtq import Client, SubmitUncertain
from yadtq.testing import running

ORDER = {"cents": 1999, "mail": "ann@example.org"}


def browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://test")


async def test_an_order_that_is_placed_twice_is_charged_once(state: State) -> None:
    async with running(app) as world, browser() as web:
        api.state.tasks = world.client
        assert (await web.get("/orders/17")).status_code == 404
        for _ in range(2):
            placed = await web.post("/orders/17", json=ORDER)
            assert (placed.status_code, placed.json()) == (202, {"task": "charge-17"})
        await world.advance(1)
        assert (await web.get("/orders/17")).json() == {"payment": "SUCCESS"}
    assert state.bank.charged == {"charge-17": 1999}
    assert len(state.sent) == 1


async def test_an_outage_of_kafka_says_try_again() -> None:
    async with running(app) as world, browser() as web:
        api.state.tasks = world.client
        with mock.patch.object(Client, "submit_task", side_effect=SubmitUncertain(["charge-17"], 5, "Kafka is away")):
            answer = await web.post("/orders/17", json=ORDER)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


async def test_a_wrong_order_is_refused() -> None:
    async with running(app), browser() as web:
        assert (await web.post("/orders/17", json={"cents": -1, "mail": "x"})).status_code == 422
