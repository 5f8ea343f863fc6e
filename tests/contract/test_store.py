"""What every store must do: the suite of `verbs.Store`, on memory and on a real server."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.store_harness import DELAY_MS, LEASE_MS, QUEUED_TTL_S, RESULT_TTL_S, STEP_MS
from yadtq.store.tasks.verbs import ENDED, SUSPECT, WAIT, Claim, ClaimReply, Finish, Lease, Snapshot
from yadtq.wire.states import TRANSITIONS, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.contract.store_harness import Harness
    from yadtq.store.verbs import Store

S = TaskStatus
FINALS = (S.SUCCESS, S.FAILED, S.CANCELLED)
STATES = (None, S.QUEUED, S.IN_PROGRESS, S.RETRYING, *FINALS)
PAST_LEASE = 2 * STEP_MS


async def status(store: Store, task_id: str = "t") -> TaskStatus | None:
    snapshot = (await store.tasks.snapshots([task_id]))[0]
    return snapshot and snapshot.status


async def claim(store: Store, nonce: str, task_id: str = "t", *, worker: str = "w", suspects: int = 1) -> ClaimReply:
    return (await store.tasks.claim(worker, [Claim(task_id, nonce)], suspects))[0]


async def finish(store: Store, nonce: str, status: TaskStatus, attempt: int = 1, **more: Any) -> bool:
    end = Finish("t", nonce, attempt, status, b"null", due_ms=0)._replace(**more)
    return (await store.tasks.finish([end]))[0]


async def bring(harness: Harness, state: TaskStatus | None) -> None:
    """Task "t" into `state`; "right" is the nonce of its attempt 1, if it has had one."""
    store = harness.store
    if state is None:
        return
    await store.tasks.register(["t"])
    if state is not S.QUEUED:
        assert (await claim(store, "right")).verdict == 1
    if state not in (S.QUEUED, S.IN_PROGRESS):
        assert await finish(store, "right", state, due_ms=DELAY_MS if state is S.RETRYING else 0)
    assert await status(store) == state


def verbs(nonce: str, restorable: bool) -> dict[str, Callable[[Store], Awaitable[object]]]:
    lease = Lease("t", nonce, 1, restorable)
    calls: dict[str, Callable[[Store], Awaitable[object]]] = {
        "register": lambda store: store.tasks.register(["t"]),
        "claim": lambda store: store.tasks.claim("w2", [Claim("t", nonce)], 1),
        "renew": lambda store: store.tasks.renew("w2", [lease]),
        "release": lambda store: store.tasks.release([lease]),
    }
    for target in (*FINALS, S.RETRYING):
        end = Finish("t", nonce, 1, target, b'"x"', DELAY_MS, restorable)
        calls[f"finish {target}"] = lambda store, end=end: store.tasks.finish([end])  # type: ignore[misc]
    return calls


VERBS = tuple(verbs("", False))
PAIRS = list(product(STATES, VERBS, ("right", "wrong"), (False, True)))


class TestTransitions:
    """Every verb in every state, against the table in states.py."""

    @pytest.mark.parametrize(
        ("state", "verb", "nonce", "waited"),
        PAIRS,
        ids=str,
    )
    async def test_leads_where_the_table_says(
        self, harness: Harness, state: TaskStatus | None, verb: str, nonce: str, waited: bool
    ) -> None:
        await bring(harness, state)
        if waited:
            await harness.advance(PAST_LEASE)
        await verbs(nonce, restorable=True)[verb](harness.store)
        after = await status(harness.store)
        name, _, target = verb.partition(" ")
        allowed = TRANSITIONS.get((state, name), frozenset())
        if state is S.IN_PROGRESS and name in ("finish", "release") and nonce == "wrong":
            allowed = frozenset()
        if state is S.RETRYING and (not waited or nonce == "right"):
            allowed = frozenset()  # not due, or the echo of the claim of an attempt that has ended
        expected = frozenset({TaskStatus(target)}) & allowed if target and allowed else allowed
        assert after in (expected or {state})

    @pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("register", "claim")])
    async def test_nothing_comes_from_nothing_unless_lately_confirmed(self, harness: Harness, verb: str) -> None:
        assert await verbs("right", restorable=False)[verb](harness.store) == [False]
        assert await status(harness.store) is None

    @pytest.mark.parametrize(
        ("state", "verb", "nonce", "waited"),
        PAIRS,
        ids=str,
    )
    async def test_a_repeated_call_gets_the_same_answer_and_changes_nothing(
        self, harness: Harness, state: TaskStatus | None, verb: str, nonce: str, waited: bool
    ) -> None:
        await bring(harness, state)
        if waited:
            await harness.advance(PAST_LEASE)
        call = verbs(nonce, restorable=True)[verb]
        first, dump, snapshot = (
            await call(harness.store),
            await harness.dump(),
            await harness.store.tasks.snapshots(["t"]),
        )
        second = await call(harness.store)
        if verb == "claim":
            first, second = ([reply._replace(wait_ms=0) for reply in replies] for replies in (first, second))  # type: ignore[attr-defined]
        assert second == first
        assert await harness.dump() == dump
        assert await harness.store.tasks.snapshots(["t"]) == snapshot


class TestClaim:
    async def test_attempts_are_counted_from_one(self, harness: Harness) -> None:
        for attempt in (1, 2, 3):
            assert await claim(harness.store, f"n{attempt}") == ClaimReply(attempt, failures=attempt - 1)
            assert await finish(harness.store, f"n{attempt}", S.RETRYING, attempt)

    @pytest.mark.parametrize("final", FINALS)
    async def test_a_final_task_is_refused_as_done(self, harness: Harness, final: TaskStatus) -> None:
        await bring(harness, final)
        assert (await claim(harness.store, "new")).verdict == ENDED

    async def test_a_held_task_says_how_long_to_wait(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await harness.advance(STEP_MS)
        verdict, crashes, failures, wait_ms = await claim(harness.store, "new")
        assert (verdict, crashes, failures) == (WAIT, 0, 0)
        assert LEASE_MS - STEP_MS - 1_000 < wait_ms <= LEASE_MS - STEP_MS

    async def test_a_retry_is_not_granted_before_it_is_due(self, harness: Harness) -> None:
        await bring(harness, S.RETRYING)
        reply = await claim(harness.store, "new")
        assert reply.verdict == WAIT
        assert 0 < reply.wait_ms <= DELAY_MS
        await harness.advance(STEP_MS)
        assert await claim(harness.store, "new") == ClaimReply(2, crashes=0, failures=1)

    async def test_the_end_of_a_lease_is_a_take_over_charged_as_a_crash(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await harness.advance(PAST_LEASE)
        assert await claim(harness.store, "new") == ClaimReply(2, crashes=1)
        assert not await finish(harness.store, "right", S.SUCCESS, 1), "the zombie is fenced"
        assert await finish(harness.store, "new", S.SUCCESS, 2)

    async def test_a_renewed_lease_holds(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        for _ in range(4):
            await harness.advance(STEP_MS)
            assert await harness.store.tasks.renew("w", [Lease("t", "right", 1, False)]) == [True]
        assert (await claim(harness.store, "new")).verdict == WAIT

    async def test_an_ended_lease_that_nobody_took_can_be_renewed(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await harness.advance(PAST_LEASE)
        assert await harness.store.tasks.renew("w", [Lease("t", "right", 1, False)]) == [True]
        assert (await claim(harness.store, "new")).verdict == WAIT

    async def test_an_ended_lease_that_nobody_took_still_finishes(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await harness.advance(PAST_LEASE)
        assert await finish(harness.store, "right", S.SUCCESS)

    async def test_a_death_certificate_ends_the_leases_of_that_worker_only(self, harness: Harness) -> None:
        await harness.store.tasks.claim("dies", [Claim("a", "n")], 0)
        await harness.store.tasks.claim("lives", [Claim("b", "n")], 0)
        await harness.store.deaths.bury("dies")
        replies = await harness.store.tasks.claim("next", [Claim("a", "m"), Claim("b", "m")], 1)
        assert replies[0] == ClaimReply(2, crashes=1)
        assert replies[1].verdict == WAIT

    async def test_the_last_words_of_a_buried_worker_take_no_lease(self, harness: Harness) -> None:
        await bring(harness, S.QUEUED)
        await harness.store.deaths.bury("w")
        before = await harness.dump()
        replies = await harness.store.tasks.claim("w", [Claim("t", "n"), Claim("new", "n")], 1)
        assert replies == [ClaimReply(WAIT, wait_ms=LEASE_MS)] * 2
        assert await harness.dump() == before

    async def test_a_certificate_lasts_an_hour(self, harness: Harness) -> None:
        await harness.store.deaths.bury("dies")
        await harness.advance(500 * STEP_MS)
        await harness.store.deaths.bury("other")
        assert (await harness.store.tasks.claim("dies", [Claim("a", "n")], 0))[0].verdict == WAIT
        await harness.advance(100 * STEP_MS)
        await harness.store.deaths.bury("another")  # clears away what is old
        assert (await harness.store.tasks.claim("dies", [Claim("a", "n")], 0))[0].verdict == 1
        assert (await harness.store.tasks.claim("next", [Claim("a", "m")], 0))[0].verdict == WAIT

    async def test_a_batch_is_answered_in_its_order(self, harness: Harness) -> None:
        store = harness.store
        await store.tasks.claim("w", [Claim(id_, "n") for id_ in ("held", "done", "later", "given")], 0)
        await store.tasks.finish(
            [Finish("done", "n", 1, S.FAILED), Finish("later", "n", 1, S.RETRYING, b"1", DELAY_MS)]
        )
        await store.tasks.release([Lease("given", "n", 1, False)])
        ids = ["done", "new", "held", "given", "later", "done"]
        replies = await store.tasks.claim("w", [Claim(id_, "m") for id_ in ids], 0)
        assert [reply.verdict for reply in replies] == [ENDED, 1, WAIT, 2, WAIT, ENDED]

    async def test_of_two_copies_in_one_batch_one_is_granted(self, harness: Harness) -> None:
        replies = await harness.store.tasks.claim("w", [Claim("t", "n1"), Claim("t", "n2")], 0)
        assert [reply.verdict for reply in replies] == [1, WAIT]

    async def test_of_many_workers_one_wins(self, harness: Harness) -> None:
        ids = [f"t{n}" for n in range(20)]

        async def race(worker: int) -> list[int]:
            replies = await harness.store.tasks.claim(f"w{worker}", [Claim(id_, f"{worker}") for id_ in ids], 0)
            return [reply.verdict for reply in replies]

        for verdicts in zip(*await asyncio.gather(*(race(worker) for worker in range(25))), strict=True):
            assert sorted(verdicts) == [WAIT] * 24 + [1]

    async def test_the_echo_of_a_claim_whose_attempt_has_ended_takes_no_lease(self, harness: Harness) -> None:
        # A connection that was cut may deliver its command seconds after the repeat on another one was answered.
        await bring(harness, S.IN_PROGRESS)
        await harness.store.tasks.release([Lease("t", "right", 1, False)])
        assert (await claim(harness.store, "right")).verdict == WAIT
        assert await claim(harness.store, "new") == ClaimReply(2)


class TestSuspects:
    """Tasks that were running when workers died: granted only to who has a place for them (D22)."""

    async def crash(
        self, harness: Harness, ids: list[str], times: int, *, first: int = 0, outside: bool = False
    ) -> None:
        for crash in range(first, first + times):
            claims = [Claim(id_, f"crash{crash}") for id_ in ids]
            assert all(reply.verdict > 0 for reply in await harness.store.tasks.claim(f"w{crash}", claims, len(ids)))
            await harness.store.deaths.bury(f"w{crash}", outside=outside)

    async def test_one_death_that_may_be_its_own_doing_makes_a_suspect(self, harness: Harness) -> None:
        await self.crash(harness, ["a", "b"], 1)
        claims = [Claim("a", "n"), Claim("b", "n")]
        assert await harness.store.tasks.claim("w", claims, 0) == [ClaimReply(SUSPECT, crashes=1)] * 2
        assert await harness.store.tasks.claim("w", claims, 2) == [ClaimReply(2, crashes=1)] * 2

    async def test_of_deaths_from_outside_it_takes_three(self, harness: Harness) -> None:
        await self.crash(harness, ["a"], 2, outside=True)
        assert await claim(harness.store, "n", "a", suspects=0) == ClaimReply(3), "nobody is charged"
        await harness.store.deaths.bury("w", outside=True)
        assert await claim(harness.store, "m", "a", worker="w2", suspects=0) == ClaimReply(SUSPECT, crashes=1)

    async def test_an_outcome_between_them_does_not_take_a_death_back(self, harness: Harness) -> None:
        await self.crash(harness, ["a"], 2, outside=True)
        await claim(harness.store, "n", "a")
        await harness.store.tasks.finish([Finish("a", "n", 3, S.RETRYING, b"{}", 0)])
        await claim(harness.store, "m", "a", worker="w3")
        await harness.store.deaths.bury("w3", outside=True)
        assert (await claim(harness.store, "k", "a", worker="w4", suspects=0)).verdict == SUSPECT

    async def test_only_so_many_are_granted(self, harness: Harness) -> None:
        await self.crash(harness, ["a", "b", "c"], 2)
        claims = [Claim(id_, "n") for id_ in ("a", "innocent", "b", "c")]
        replies = await harness.store.tasks.claim("w", claims, 1)
        assert replies == [ClaimReply(3, crashes=2), ClaimReply(1), *[ClaimReply(SUSPECT, crashes=2)] * 2]
        assert await harness.store.tasks.claim("w", claims, 1) == replies, "a repeat grants no more than the first call"
        assert await harness.store.tasks.claim("w2", [Claim("b", "m")], 0) == [ClaimReply(SUSPECT, crashes=2)]
        assert await status(harness.store, "b") is S.QUEUED

    async def test_a_repeat_does_not_grant_a_second_one_that_was_held_before(self, harness: Harness) -> None:
        await self.crash(harness, ["a", "b"], 2)
        await harness.store.tasks.claim("other", [Claim("a", "other")], 1)
        claims = [Claim("a", "n"), Claim("b", "n")]
        assert [reply.verdict for reply in await harness.store.tasks.claim("w", claims, 1)] == [WAIT, 3]
        await harness.store.deaths.bury("other")
        assert [reply.verdict for reply in await harness.store.tasks.claim("w", claims, 1)] == [SUSPECT, 3]

    async def test_two_copies_of_a_suspect_in_one_batch(self, harness: Harness) -> None:
        await self.crash(harness, ["a"], 2)
        replies = await harness.store.tasks.claim("w", [Claim("a", "n1"), Claim("a", "n2")], 5)
        assert [reply.verdict for reply in replies] == [3, WAIT]
        assert replies[1].wait_ms > 0

    async def test_a_refused_suspect_is_charged_once(self, harness: Harness) -> None:
        await self.crash(harness, ["a"], 2)
        for nonce in ("n1", "n2", "n2"):
            assert await claim(harness.store, nonce, "a", suspects=0) == ClaimReply(SUSPECT, crashes=2)

    async def test_a_release_is_no_crash(self, harness: Harness) -> None:
        for attempt in range(1, 5):
            assert await claim(harness.store, f"n{attempt}") == ClaimReply(attempt)
            assert await harness.store.tasks.release([Lease("t", f"n{attempt}", attempt, False)]) == [True]

    async def test_crashes_and_failures_are_counted_apart(self, harness: Harness) -> None:
        await self.crash(harness, ["t"], 1)
        await claim(harness.store, "n", suspects=1)
        await finish(harness.store, "n", S.RETRYING, 2)
        await finish(harness.store, "n", S.RETRYING, 2)  # a repeat is not a second failure
        assert await claim(harness.store, "m", suspects=1) == ClaimReply(3, crashes=1, failures=1)


class TestFinish:
    async def test_a_final_state_never_changes(self, harness: Harness) -> None:
        await bring(harness, S.SUCCESS)
        before = await harness.store.tasks.snapshots(["t"])
        for target in (*FINALS, S.RETRYING):
            for nonce in ("right", "wrong"):
                accepted = await finish(harness.store, nonce, target, payload=b'"other"', restorable=True)
                assert accepted is (nonce == "right" and target is S.SUCCESS)
        assert await harness.store.tasks.snapshots(["t"]) == before

    async def test_the_attempt_must_fit_as_well_as_the_nonce(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        assert not await finish(harness.store, "right", S.SUCCESS, attempt=2)
        assert not await finish(harness.store, "wrong", S.SUCCESS, attempt=1)
        assert await finish(harness.store, "right", S.SUCCESS, attempt=1)

    async def test_a_batch_is_answered_in_its_order(self, harness: Harness) -> None:
        store = harness.store
        await store.tasks.claim("w", [Claim(id_, "n") for id_ in "abc"], 0)
        ends = [
            Finish(id_, nonce, 1, S.SUCCESS, b"1") for id_, nonce in (("a", "n"), ("b", "x"), ("z", "n"), ("c", "n"))
        ]
        assert await store.tasks.finish(ends) == [True, False, False, True]
        assert await store.tasks.renew("w", [Lease(id_, "n", 1, False) for id_ in "abz"]) == [False, True, False]
        assert await store.tasks.release([Lease(id_, "n", 1, False) for id_ in "abz"]) == [False, True, False]

    async def test_of_a_retry_the_last_error_is_shown_until_the_next_attempt(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await finish(harness.store, "right", S.RETRYING, payload=b'"why"')
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.RETRYING, 1, b'"why"')]
        await claim(harness.store, "new")
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.IN_PROGRESS, 2, b"")]
        await harness.store.tasks.release([Lease("t", "new", 2, False)])
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.QUEUED, 2, b"")]

    @pytest.mark.parametrize("size", [0, 63, 64, 65, 5_000, 300_000])
    async def test_results_of_any_size_come_back(self, harness: Harness, size: int) -> None:
        await bring(harness, S.IN_PROGRESS)
        payload = b'"' + b"x" * (size - 2) + b'"' if size else b""
        assert await finish(harness.store, "right", S.SUCCESS, payload=payload)
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.SUCCESS, 1, payload)]

    async def test_a_refused_attempt_overwrites_no_large_result(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await harness.advance(PAST_LEASE)
        await claim(harness.store, "new")
        good = b'"' + b"g" * 9_000 + b'"'
        assert await finish(harness.store, "new", S.SUCCESS, 2, payload=good)
        assert not await finish(harness.store, "right", S.SUCCESS, 1, payload=b'"' + b"z" * 9_000 + b'"')
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.SUCCESS, 2, good)]

    async def test_nor_does_a_refused_change_of_mind_of_the_same_attempt(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        good = b'"' + b"g" * 9_000 + b'"'
        assert await finish(harness.store, "right", S.SUCCESS, payload=good)
        assert not await finish(harness.store, "right", S.FAILED, payload=b'"' + b"z" * 9_000 + b'"')
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(S.SUCCESS, 1, good)]


class TestWaiters:
    async def test_one_message_tells_of_all_that_ended_in_a_batch(self, harness: Harness) -> None:
        store = harness.store
        await harness.listen("c1")
        await store.tasks.claim("w", [Claim(id_, "n") for id_ in "ab"], 0)
        assert [snapshot.status for snapshot in await store.tasks.wait("c1", ["a", "b"]) if snapshot] == [
            S.IN_PROGRESS
        ] * 2
        ends = [Finish("a", "n", 1, S.SUCCESS, b"1"), Finish("b", "n", 1, S.FAILED, b'"e"')]
        await store.tasks.finish(ends)
        expected = [("a", Snapshot(S.SUCCESS, 1, b"1")), ("b", Snapshot(S.FAILED, 1, b'"e"'))]
        assert await harness.news("c1") == [expected]
        await store.tasks.finish(ends)
        assert await harness.news("c1") == [], "a repeat is no news"
        assert not [task for task in (await harness.dump()).values() if "c" in task], "who was told is forgotten"

    async def test_whoever_registers_after_the_end_reads_it_and_gets_no_news(self, harness: Harness) -> None:
        await harness.listen("c1")
        await bring(harness, S.SUCCESS)
        assert await harness.store.tasks.wait("c1", ["t"]) == [Snapshot(S.SUCCESS, 1, b"null")]
        assert await harness.news("c1") == []
        assert (await harness.dump())["t"].get("c") is None

    async def test_every_waiter_hears_once_though_it_registered_twice(self, harness: Harness) -> None:
        for channel in ("c1", "c2", "c"):
            await harness.listen(channel)
        await bring(harness, S.IN_PROGRESS)
        for channel in ("c1", "c2", "c1", "c"):  # "c" is part of the other names and still its own
            await harness.store.tasks.wait(channel, ["t"])
        await finish(harness.store, "right", S.SUCCESS)
        for channel in ("c1", "c2", "c"):
            assert await harness.news(channel) == [[("t", Snapshot(S.SUCCESS, 1, b"null"))]]

    async def test_a_waiter_stays_over_retries_and_take_overs(self, harness: Harness) -> None:
        await harness.listen("c1")
        await bring(harness, S.IN_PROGRESS)
        await harness.store.tasks.wait("c1", ["t"])
        await finish(harness.store, "right", S.RETRYING)
        assert await harness.news("c1") == [], "a retry is not an end"
        await claim(harness.store, "n2")
        await harness.advance(PAST_LEASE)
        await claim(harness.store, "n3")
        await finish(harness.store, "n3", S.CANCELLED, 3)
        assert await harness.news("c1") == [[("t", Snapshot(S.CANCELLED, 3, b"null"))]]

    @pytest.mark.parametrize("first", ["register", "claim", "renew", "finish"])
    async def test_a_waiter_may_come_before_the_task(self, harness: Harness, first: str) -> None:
        store = harness.store
        await harness.listen("c1")
        assert await store.tasks.wait("c1", ["t"]) == [None]
        assert await store.tasks.wait("c1", ["t"]) == [None]
        if first == "register":
            await store.tasks.register(["t"])
            assert await status(store) is S.QUEUED
        if first in ("register", "claim"):
            assert (await claim(store, "n")).verdict == 1
        if first == "renew":
            assert await store.tasks.renew("w", [Lease("t", "n", 1, True)]) == [True]
        assert await finish(store, "n", S.SUCCESS, restorable=first == "finish")
        assert await harness.news("c1") == [[("t", Snapshot(S.SUCCESS, 1, b"null"))]]

    async def test_reading_registers_nobody(self, harness: Harness) -> None:
        assert await harness.store.tasks.snapshots(["a", "b"]) == [None, None]
        assert await harness.dump() == {}


class TestLossOfAllData:
    async def test_the_data_set_stays_until_then(self, harness: Harness) -> None:
        first = (await harness.store.data_set()).name
        assert first
        assert (await harness.store.data_set()).name == first
        await harness.flush()
        assert (await harness.store.data_set()).name not in ("", first)

    async def test_a_lately_confirmed_lease_is_written_anew(self, harness: Harness) -> None:
        await claim(harness.store, "right")
        await harness.flush()
        assert await harness.store.tasks.renew("w", [Lease("t", "right", 7, True)]) == [True]
        assert (await claim(harness.store, "new")).verdict == WAIT
        assert await finish(harness.store, "right", S.SUCCESS, 7)

    async def test_a_restored_lease_ends_and_dies_like_any_other(self, harness: Harness) -> None:
        await harness.store.tasks.renew("w", [Lease("t", "n", 7, True)])
        await harness.store.deaths.bury("w")
        assert await claim(harness.store, "new", worker="w2") == ClaimReply(8, crashes=1)

    async def test_a_lease_taken_by_another_since_is_not(self, harness: Harness) -> None:
        await claim(harness.store, "old")
        await harness.flush()
        assert (await claim(harness.store, "new")).verdict == 1
        assert await harness.store.tasks.renew("w", [Lease("t", "old", 1, True)]) == [False]
        assert not await finish(harness.store, "old", S.SUCCESS, restorable=True)
        assert await finish(harness.store, "new", S.SUCCESS)

    @pytest.mark.parametrize("target", [*FINALS, S.RETRYING])
    async def test_a_finish_survives_it(self, harness: Harness, target: TaskStatus) -> None:
        await claim(harness.store, "n")
        await harness.flush()
        assert await finish(harness.store, "n", target, 3, restorable=True, payload=b"x" * 100)
        assert await harness.store.tasks.snapshots(["t"]) == [Snapshot(target, 3, b"x" * 100)]


class TestExpiry:
    async def test_a_final_state_is_kept_for_the_result_ttl(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await finish(harness.store, "right", S.SUCCESS, payload=b'"' + b"x" * 100 + b'"')
        await harness.advance(8 * STEP_MS)
        assert await status(harness.store) is S.SUCCESS
        assert 9 * STEP_MS > RESULT_TTL_S * 1000
        await harness.advance(STEP_MS)
        assert await status(harness.store) is None

    async def test_an_unfinished_one_for_the_queued_ttl(self, harness: Harness) -> None:
        await harness.store.tasks.register(["t"])
        await harness.advance(QUEUED_TTL_S * 1000 // STEP_MS * STEP_MS)
        assert await status(harness.store) is S.QUEUED
        await harness.advance(STEP_MS)
        assert await status(harness.store) is None
        assert await claim(harness.store, "n") == ClaimReply(1), "its record is still in Kafka"

    async def test_renewals_keep_a_running_task_for_ever(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        for _ in range(3):
            await harness.advance(100 * STEP_MS)
            assert await harness.store.tasks.renew("w", [Lease("t", "right", 1, False)]) == [True]

    async def test_a_retry_is_remembered_beyond_its_delay_however_long(self, harness: Harness) -> None:
        await bring(harness, S.IN_PROGRESS)
        await finish(harness.store, "right", S.RETRYING, due_ms=2 * QUEUED_TTL_S * 1000, payload=b"e" * 100)
        await harness.advance(QUEUED_TTL_S * 1000 // STEP_MS * STEP_MS + STEP_MS)
        assert await status(harness.store) is S.RETRYING
        assert (await claim(harness.store, "new")).verdict == WAIT
        await harness.advance(QUEUED_TTL_S * 1000)
        assert await claim(harness.store, "new") == ClaimReply(2, failures=1)

    async def test_a_waiter_of_an_unknown_task_is_forgotten(self, harness: Harness) -> None:
        await harness.store.tasks.wait("c1", ["t"])
        await harness.advance(18 * STEP_MS)
        assert await harness.dump() == {}

    async def test_a_waiter_does_not_shorten_the_life_of_a_known_task(self, harness: Harness) -> None:
        await harness.store.tasks.register(["t"])
        await harness.store.tasks.wait("c1", ["t"])
        await harness.advance(18 * STEP_MS)
        assert await status(harness.store) is S.QUEUED


async def test_empty_batches(harness: Harness) -> None:
    store = harness.store
    await store.tasks.register([])
    tasks = store.tasks
    answers: list[Sequence[object]] = [
        await tasks.claim("w", [], 1),
        await tasks.snapshots([]),
        await tasks.wait("c", []),
    ]
    answers += [await tasks.renew("w", []), await tasks.release([]), await tasks.finish([])]
    assert answers == [[]] * 6
    assert await harness.dump() == {}
