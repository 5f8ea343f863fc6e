"""An id belongs to the queue and the task that it was first seen with: on memory and on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yadtq.store.tasks.verbs import ENDED, FOREIGN, WAIT, Claim, Finish, Lease, Snapshot
from yadtq.wire.ids import home_of
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from tests.contract.store_harness import Harness

S = TaskStatus
HERE, ELSEWHERE = home_of("yadtq.a.tasks.billing", "charge"), home_of("yadtq.a.tasks.default", "charge")


async def verdict(harness: Harness, nonce: str, home: str) -> int:
    return (await harness.store.tasks.claim("w", [Claim("t", nonce, home)], 1))[0].verdict


def test_queue_and_name_count() -> None:
    homes = {home_of(topic, task) for topic in ("a", "b") for task in ("x", "y")} | {
        home_of("a\0x", ""),
        home_of("", "ax"),
    }
    assert len(homes) == 6
    assert all(len(home) == 19 and int(home) < 2**63 for home in homes), "a number that Redis keeps in nine bytes"
    assert home_of("a", "\ud800") != home_of("a", "x"), "a name that is no Unicode has one, too"


async def test_the_registration_says_where_an_id_belongs(harness: Harness) -> None:
    tasks = harness.store.tasks
    await tasks.register(["t"], homes=[HERE])
    await tasks.register(["t"], homes=[ELSEWHERE])
    before = await harness.dump()
    assert await verdict(harness, "n", ELSEWHERE) == FOREIGN
    assert await harness.dump() == before
    assert await verdict(harness, "m", HERE) == 1


async def test_else_the_first_claim(harness: Harness) -> None:
    await harness.store.tasks.register(["t"])
    assert await verdict(harness, "n", HERE) == 1
    assert await verdict(harness, "m", ELSEWHERE) == FOREIGN, "not to be asked again, as a task that runs elsewhere"
    assert await verdict(harness, "n", HERE) == 1, "a repeat"
    assert await verdict(harness, "o", HERE) == WAIT


@pytest.mark.parametrize("end", [S.SUCCESS, S.FAILED, S.RETRYING])
async def test_it_stays_through_ends_and_retries(harness: Harness, end: S) -> None:
    tasks = harness.store.tasks
    await verdict(harness, "n", HERE)
    assert await tasks.finish([Finish("t", "n", 1, end, b"1", 0, True, HERE)]) == [True]
    assert await verdict(harness, "m", ELSEWHERE) == FOREIGN
    assert await tasks.snapshots(["t"]) == [Snapshot(end, 1, b"1")]
    assert await verdict(harness, "m", HERE) == (2 if end is S.RETRYING else ENDED)


async def test_it_stays_when_a_lease_is_given_back(harness: Harness) -> None:
    await verdict(harness, "n", HERE)
    await harness.store.tasks.release([Lease("t", "n", 1, False)])
    assert await verdict(harness, "m", ELSEWHERE) == FOREIGN
    assert await verdict(harness, "m", HERE) == 2


async def test_within_one_batch(harness: Harness) -> None:
    claims = [Claim("t", "n", HERE), Claim("t", "m", ELSEWHERE), Claim("u", "n", ELSEWHERE)]
    for _ in range(2):
        replies = await harness.store.tasks.claim("w", claims, 1)
        assert [reply.verdict for reply in replies] == [1, FOREIGN, 1]


async def test_what_is_written_again_after_a_loss_belongs_where_it_did(harness: Harness) -> None:
    tasks = harness.store.tasks
    await harness.flush()
    await tasks.register(["t"], homes=[ELSEWHERE])  # it came first, but a task runs under this id
    assert await tasks.renew("w", [Lease("t", "n", 1, True, HERE)]) == [True]
    assert await verdict(harness, "m", ELSEWHERE) == FOREIGN
    await harness.flush()
    assert await tasks.finish([Finish("t", "n", 1, S.SUCCESS, b"1", 0, True, HERE)]) == [True]
    assert await verdict(harness, "m", ELSEWHERE) == FOREIGN
    assert await verdict(harness, "m", HERE) == ENDED


async def test_what_older_versions_have_written_belongs_to_whoever_claims_it(harness: Harness) -> None:
    assert await verdict(harness, "n", "") == 1
    await harness.store.tasks.release([Lease("t", "n", 1, False)])
    assert await verdict(harness, "m", HERE) == 2
    assert await verdict(harness, "o", ELSEWHERE) == FOREIGN
