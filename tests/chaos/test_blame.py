"""A share of two measures (`python -m tests.chaos measure --only random-kills,poison`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.blame import DOUBTFUL, PROVABLE, kill_at_random, poison_among_good
from tests.chaos.measure import SETTINGS

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_kills_at_random_fail_nobody(make_world: MakeWorld) -> None:
    world = await make_world(settings=SETTINGS)
    fleet, customer = await world.fleet(workers=3), await world.customer()
    done = await kill_at_random(world, fleet, customer, 12, seconds=12)
    assert done.failed == 0
    assert await world.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("kinds", "most"), [(PROVABLE, 1), (DOUBTFUL, 3)], ids=["provable", "doubtful"])
async def test_poison_fails_itself_and_nobody_else(make_world: MakeWorld, kinds: tuple[str, ...], most: int) -> None:
    world = await make_world(settings=SETTINGS)
    fleet, customer = await world.fleet(workers=2), await world.customer()
    done = await poison_among_good(world, fleet, customer, kinds, each=1, good=500)
    assert done.missing(kinds, 1) == []
    assert done.succeeded == done.good
    assert done.deaths <= most * len(kinds)
