"""A short run of the full mix; `python -m tests.chaos soak` is the long one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.chaos.soak import SETTINGS, soak
from tests.chaos.world import QUICK_SETTINGS

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld

#: The same faults in every run, so that a failure in CI is one at home; another seed may be given.
SEED = int(os.environ.get("YADTQ_TEST_SEED", "7"))
SECONDS = 30.0


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_a_seeded_mix_of_faults_breaks_no_invariant(make_world: MakeWorld) -> None:
    world = await make_world(settings={**QUICK_SETTINGS, **SETTINGS}, seed=SEED)
    report = await soak(world, seed=SEED, seconds=SECONDS, storms_s=(4.0, 6.0))
    print(report.text())
    assert report.violations == []
    assert sum(report.faults.values()) >= 5
