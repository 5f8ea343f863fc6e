"""Damaged data of one task are its own problem, and a data set that went back in time says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.store_harness import LEASE_MS, STEP_MS
from tests.support.poll import eventually
from yadtq.store.tasks.verbs import (
    CHANNELS_MOST,
    DAMAGED,
    WAIT,
    Claim,
    ClaimReply,
    Finish,
    Lease,
    Snapshot,
    Unreadable,
)
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from tests.contract.store_harness import Harness

PAST_LEASE = 2 * STEP_MS


async def claim(harness: Harness, nonce: str, worker: str = "w", task_id: str = "t") -> ClaimReply:
    return (await harness.store.tasks.claim(worker, [Claim(task_id, nonce)], 1))[0]


async def status(harness: Harness, task_id: str = "t") -> S | None:
    (found,) = await harness.store.tasks.snapshots([task_id])
    return found.status if found is not None else None


class TestDamage:
    async def test_it_is_one_tasks_problem_in_every_verb(self, harness: Harness) -> None:
        tasks = harness.store.tasks
        batch = ["a", "t", "b"]
        await tasks.claim("w", [Claim(id_, "n" + id_) for id_ in batch], 0)
        await harness.damage("t")
        await tasks.register(batch)
        a, t, b = await tasks.snapshots(batch)
        assert isinstance(t, Unreadable)
        assert (a, b) == (Snapshot(S.IN_PROGRESS, 1), Snapshot(S.IN_PROGRESS, 1))
        assert isinstance((await tasks.wait("c", batch))[1], Unreadable)
        await tasks.unwait("c", batch)
        assert await tasks.renew("w", [Lease(id_, "n" + id_, 1, False) for id_ in batch]) == [True, False, True]
        assert await tasks.release([Lease(id_, "n" + id_, 1, False) for id_ in ("a", "t")]) == [True, False]
        ends = [Finish(id_, "n" + id_, 1, S.SUCCESS, b"1") for id_ in ("t", "b")]
        assert await tasks.finish(ends) == [False, True]

    async def test_a_claim_holds_it_to_be_ended_as_failed(self, harness: Harness) -> None:
        await harness.damage("t")
        replies = await harness.store.tasks.claim("w", [Claim("u", "nu"), Claim("t", "n"), Claim("v", "nv")], 0)
        assert replies == [ClaimReply(1), ClaimReply(DAMAGED), ClaimReply(1)]
        assert await claim(harness, "n") == ClaimReply(DAMAGED), "the repeat gets the same answer"
        assert await status(harness) is S.IN_PROGRESS
        assert (await claim(harness, "n2", "w2")).verdict == WAIT
        assert await harness.store.tasks.renew("w", [Lease("t", "n", 0, False)]) == [True]
        assert await harness.store.tasks.finish([Finish("t", "n", 0, S.FAILED, b'{"type":"CorruptState"}')]) == [True]
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.FAILED, 0, b'{"type":"CorruptState"}')]
        assert (await claim(harness, "n3")).verdict == 0

    @pytest.mark.parametrize("how", ["lease", "death", "release"])
    async def test_nobody_runs_it_whatever_becomes_of_the_holder(self, harness: Harness, how: str) -> None:
        """It may have ended: that can't be known any more."""
        await harness.damage("t")
        await claim(harness, "n")
        if how == "lease":
            await harness.advance(PAST_LEASE)
        elif how == "death":
            await harness.store.deaths.bury("w")
        else:
            assert await harness.store.tasks.release([Lease("t", "n", 0, False)]) == [True]
        assert await claim(harness, "n2", "w2") == ClaimReply(DAMAGED)
        if how != "release":
            assert await harness.store.tasks.finish([Finish("t", "n", 0, S.FAILED, b"1")]) == [False], "fenced"
        assert await harness.store.tasks.finish([Finish("t", "n2", 0, S.FAILED, b"1")]) == [True]

    async def test_who_waits_is_told_the_end(self, harness: Harness) -> None:
        await harness.listen("c")
        await harness.damage("t")
        await claim(harness, "n")
        assert await harness.store.tasks.wait("c", ["t"]) == [Snapshot(S.IN_PROGRESS)]
        await harness.store.tasks.finish([Finish("t", "n", 0, S.FAILED, b"1")])
        assert await harness.news("c") == [[("t", Snapshot(S.FAILED, 0, b"1"))]]

    async def test_an_attempt_that_runs_writes_over_it(self, harness: Harness) -> None:
        await claim(harness, "n")
        await harness.damage("t")
        assert await harness.store.tasks.renew("w", [Lease("t", "n", 1, True)]) == [True]
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.IN_PROGRESS, 1)]
        await harness.damage("t")
        assert await harness.store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, b"5", restorable=True)]) == [True]
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.SUCCESS, 1, b"5")]


async def name(harness: Harness) -> str:
    return (await harness.store.data_set()).name


class TestBackInTime:
    async def test_it_has_another_name_for_everybody(self, harness: Harness) -> None:
        before = await name(harness)
        assert await name(harness) == before
        await harness.save()
        assert await name(harness) == before
        await harness.restore()
        after = await name(harness)
        assert after != before
        assert await name(harness) == after
        await harness.restore()
        assert await name(harness) not in (before, after), "twice is told twice"

    async def test_what_was_submitted_to_another_data_set_is_not_registered(self, harness: Harness) -> None:
        """Found by seed 11160 of the simulation: it may have ended in what was lost, and would be QUEUED for ever."""
        before = await harness.store.data_set()
        assert await harness.store.tasks.register(["first"], before.name)
        await harness.save()
        await harness.restore()
        after = await harness.store.data_set()
        assert after.age_s < 60
        assert not await harness.store.tasks.register(["t"], before.name)
        assert await status(harness, "t") is None
        assert await harness.store.tasks.register(["t"], after.name)
        assert await status(harness, "t") is S.QUEUED
        await harness.flush()
        assert not await harness.store.tasks.register(["t"], after.name), "there is none yet"
        assert await status(harness, "t") is None

    async def test_a_data_set_grows_older(self, harness: Harness) -> None:
        first = await harness.store.data_set()
        await harness.advance(50)

        async def older() -> bool:
            again = await harness.store.data_set()
            assert again.name == first.name
            return again.age_s >= first.age_s + 0.05

        await eventually(older)

    async def test_what_nobody_confirms_is_unknown(self, harness: Harness) -> None:
        """It may have ended in the time that was lost."""
        tasks = harness.store.tasks
        await tasks.register(["queued", "confirmed", "done"])
        await claim(harness, "n", task_id="running")
        await claim(harness, "n", task_id="done")
        await tasks.finish([Finish("done", "n", 1, S.SUCCESS, b"1")])
        await harness.save()
        await claim(harness, "m", task_id="queued")
        await tasks.finish([Finish("queued", "m", 1, S.SUCCESS, b"2")])
        await tasks.register(["later"])
        await harness.restore()
        await tasks.register(["confirmed", "later", "new"])  # by a worker, from Kafka, or of a submit
        assert await status(harness, "queued") is None
        assert await status(harness, "running") is S.IN_PROGRESS, "its lease lives"
        assert await status(harness, "done") is S.SUCCESS, "a final state stands"
        for known in ("confirmed", "later", "new"):
            assert await status(harness, known) is S.QUEUED
        await harness.advance(PAST_LEASE)
        assert await status(harness, "running") is None
        await tasks.register(["running"])
        assert await status(harness, "running") is S.IN_PROGRESS

    async def test_a_wait_for_what_is_unknown_hears_its_end_all_the_same(self, harness: Harness) -> None:
        await harness.listen("c")
        await harness.store.tasks.register(["t"])
        await harness.save()
        await harness.restore()
        assert await harness.store.tasks.wait("c", ["t"]) == [None]
        await claim(harness, "n")
        await harness.store.tasks.finish([Finish("t", "n", 1, S.SUCCESS, b"1")])
        assert await harness.news("c") == [[("t", Snapshot(S.SUCCESS, 1, b"1"))]]

    @pytest.mark.parametrize("before", ["unknown", "queued", "older attempt", "older retry"])
    async def test_running_attempts_are_written_again(self, harness: Harness, before: str) -> None:
        tasks = harness.store.tasks
        number = 1
        if before == "queued":
            await tasks.register(["t"])
        elif before != "unknown":
            number = 2
            await claim(harness, "old", "w0")
        if before == "older retry":
            await tasks.finish([Finish("t", "old", 1, S.RETRYING, b"1", 0)])
        await harness.save()
        if before == "older attempt":
            await harness.store.deaths.bury("w0")
        assert (await claim(harness, "n")).verdict == number
        await harness.restore()
        if before == "older attempt":
            assert await tasks.renew("w", [Lease("t", "n", number, True)]) == [False], (
                "the older lease lives, as it seems"
            )
            await harness.advance(PAST_LEASE)
        assert await tasks.renew("w", [Lease("t", "n", number, False)]) == [False]
        assert await tasks.renew("w", [Lease("t", "n", number, True)]) == [True]
        assert await tasks.snapshots(["t"]) == [Snapshot(S.IN_PROGRESS, number)]
        assert (await claim(harness, "n3", "w2")).wait_ms > LEASE_MS // 2

    async def test_an_older_attempt_never_wins_over_a_newer(self, harness: Harness) -> None:
        await claim(harness, "old", "w0")
        await harness.store.deaths.bury("w0")
        await claim(harness, "n")
        await harness.advance(PAST_LEASE)
        assert await harness.store.tasks.renew("w0", [Lease("t", "old", 1, True)]) == [False]
        assert await harness.store.tasks.finish([Finish("t", "old", 1, S.SUCCESS, b"1", restorable=True)]) == [False]

    async def test_a_total_loss_has_no_memories(self, harness: Harness) -> None:
        await harness.save()
        await harness.restore()
        await harness.flush()
        await harness.store.data_set()
        await harness.store.tasks.register(["t"])
        assert await status(harness) is S.QUEUED


class TestWaiters:
    async def test_who_leaves_is_not_told(self, harness: Harness) -> None:
        tasks = harness.store.tasks
        await harness.listen("c")
        await harness.listen("d")
        await tasks.register(["t"])
        await tasks.wait("c", ["t"])
        await tasks.wait("d", ["t"])
        await tasks.unwait("c", ["t", "unknown"])
        await claim(harness, "n")
        await tasks.finish([Finish("t", "n", 1, S.SUCCESS, b"1")])
        assert await harness.news("c") == []
        assert len(await harness.news("d")) == 1

    async def test_nothing_is_left_of_who_waited_for_the_unknown(self, harness: Harness) -> None:
        await harness.store.tasks.wait("c", ["t"])
        await harness.store.tasks.unwait("c", ["t"])
        assert await harness.dump() == {}

    async def test_a_list_does_not_grow_with_past_waiters(self, harness: Harness) -> None:
        tasks = harness.store.tasks
        await tasks.register(["t"])
        for number in range(CHANNELS_MOST + 40):
            await tasks.wait(f"c{number}", ["t"])
        channels = (await harness.dump())["t"]["c"].split()
        assert channels == [f"c{number}" for number in range(40, CHANNELS_MOST + 40)], "the first to come went"
        await tasks.wait("c0", ["t"])
        assert (await harness.dump())["t"]["c"].split()[-1] == "c0", "and comes back with its re-check"
