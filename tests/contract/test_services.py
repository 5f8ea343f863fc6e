"""The services that a store makes keep the contract of services, in memory and on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.service_contract import exercise_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.store_harness import Harness
    from yadtq.runtime.service import Service
    from yadtq.store.verbs import Store


def nothing(*_: object) -> None: ...


SERVICES: dict[str, Callable[[Store], Service]] = {
    "control": lambda store: store.hear_control(nothing, nothing),
    "ends": lambda store: store.hear_ends("c1", nothing, nothing),
}


@pytest.mark.parametrize("name", SERVICES)
async def test_it_keeps_the_contract(harness: Harness, name: str) -> None:
    await exercise_service(lambda: SERVICES[name](harness.store))
