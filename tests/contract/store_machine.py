"""Anything that workers, clients and fate can do to a store in any order, and what must hold after every step.

The machine drives one store, or several in lock-step, which must then give the same answers and hold the same state.
Its own bookkeeping is small on purpose: who may own a task, not how a store gets there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from tests.contract.store_harness import DELAY_MS, LEASE_MS, RESULT_TTL_S, STEP_MS
from yadtq.store.tasks.verbs import (
    DAMAGED,
    ENDED,
    FOREIGN,
    SUSPECT,
    SUSPECT_FROM,
    WAIT,
    WAIT_TTL_S,
    Claim,
    ClaimReply,
    Finish,
    Found,
    Lease,
    Snapshot,
    Unreadable,
)
from yadtq.store.verbs import Store
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from tests.contract.store_harness import Harness

#: Beyond what any run of the machine lasts, so that only final states expire.
QUEUED_TTL_S = 1_000_000
IDS = ("a", "b", "c")
#: The home of all ids, and one that none of them has.
HOME, ELSEWHERE = "7", "8"
WORKERS = ("w1", "w2", "w3")
CHANNELS = ("c1", "c2")
#: Times are compared between servers only this closely.
TOLERANCE_MS = 900

ids = st.sampled_from(IDS)
workers = st.sampled_from(WORKERS)
batches = st.lists(ids, min_size=1, max_size=4)


@dataclass(eq=False)
class Attempt:
    """What a worker knows of one that it was granted."""

    task_id: str
    nonce: str
    number: int
    worker: str
    confirmed_ms: int
    ended: bool = False


@dataclass
class Owner:
    """Who owns a task, by the answers so far."""

    nonce: str
    number: int
    worker: str
    until_ms: int


async def claim_last(claims: Sequence[Claim], suspects: int, store: Store) -> list[ClaimReply]:
    return await store.tasks.claim("last", claims, suspects)


class StoreMachine(RuleBasedStateMachine):
    attempts = Bundle("attempts")

    loop: asyncio.AbstractEventLoop

    def open(self) -> Sequence[Harness]:
        """Empty stores; they listen to CHANNELS."""
        raise NotImplementedError

    async def synchronise(self) -> None:
        """Bring the clocks of the stores together."""

    def __init__(self) -> None:
        super().__init__()
        self.harnesses = self.open()
        self.now_ms = 0
        self.nonces = 0
        self.calls: list[Callable[[Store], Awaitable[Any]]] = []
        self.buried: dict[str, int] = {}
        self.owners: dict[str, Owner] = {}
        self.highest: dict[str, int] = defaultdict(int)
        self.crashes: dict[str, int] = defaultdict(int)
        self.ended_from_outside: set[str] = set()
        self.finals: dict[str, tuple[Snapshot, int]] = {}
        self.ends: dict[str, tuple[str, TaskStatus]] = {}
        #: After damage, or a return to older data, only this is asked: that all stores give the same answers.
        self.rough = self.ever_rough = False
        self.saved = False
        self.waiting: dict[str, set[str]] = defaultdict(set)
        self.unknown_until: dict[str, int] = {}
        self.expected_news: dict[str, list[tuple[str, tuple[TaskStatus, int]]]] = {channel: [] for channel in CHANNELS}

    def run(self, call: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(call)

    def call(self, verb: Callable[[Store], Awaitable[Any]]) -> Any:
        """The same call on every store; the answer, if they agree. Now and then it is repeated later."""
        self.calls.append(verb)

        async def on_all() -> list[Any]:
            await self.synchronise()
            return [await verb(harness.store) for harness in self.harnesses]

        first, *others = self.run(on_all())
        for other in others:
            assert_same(first, other)
        return first

    # What the parties do

    @rule(batch=batches)
    def register(self, batch: list[str]) -> None:
        self.call(lambda store: store.tasks.register(batch, homes=[HOME] * len(batch)))

    @rule(target=attempts, worker=workers, batch=batches, suspects=st.integers(0, 2), twice=st.booleans())
    def claim(self, worker: str, batch: list[str], suspects: int, twice: bool) -> Any:
        claims = []
        for task_id in batch:
            self.nonces += 1
            claims.append(Claim(task_id, f"n{self.nonces}", HOME))
        replies: list[ClaimReply] = self.call(lambda store: store.tasks.claim(worker, claims, suspects))
        if self.rough:
            return multiple(
                *(
                    Attempt(claim.task_id, claim.nonce, max(0, reply.verdict), worker, self.now_ms)
                    for claim, reply in zip(claims, replies, strict=True)
                    if reply.verdict > 0 or reply.verdict == DAMAGED
                )
            )
        if worker in self.buried:
            assert replies == [ClaimReply(WAIT, wait_ms=LEASE_MS)] * len(claims)
            return multiple()
        granted = self.note_claims(worker, claims, replies, suspects)
        if twice:
            assert_same(replies, self.call(lambda store: store.tasks.claim(worker, claims, suspects)))
        return multiple(*granted)

    def note_claims(self, worker: str, claims: list[Claim], replies: list[ClaimReply], suspects: int) -> list[Attempt]:
        granted = []
        for (task_id, nonce, _), reply in zip(claims, replies, strict=True):
            verdict, crashes, _, wait_ms = reply
            assert (verdict == WAIT) == (wait_ms > 0)
            assert (verdict == ENDED) == (task_id in self.finals)
            owner = self.owners.get(task_id)
            if crashes > self.crashes[task_id]:
                assert owner is not None, f"{task_id}: a crash is charged, and nobody was running it"
                assert not self.live(owner), f"{task_id}: {owner} was alive"
                assert crashes == self.crashes[task_id] + 1
                self.owners.pop(task_id)
                owner = None
            elif (
                owner is not None and owner.worker in self.ended_from_outside and verdict in (SUSPECT, owner.number + 1)
            ):
                assert not self.live(owner), f"{task_id}: {owner} was alive"
                self.owners.pop(task_id)  # a death that is no crash, not by itself
                owner = None
            self.crashes[task_id] = crashes
            if verdict > 0:
                assert owner is None, f"{task_id} is granted to {nonce}, and {owner} owns it"
                assert verdict > self.highest[task_id], "attempts only count up"
                self.highest[task_id] = verdict
                self.owners[task_id] = Owner(nonce, verdict, worker, self.now_ms + LEASE_MS)
                self.unknown_until.pop(task_id, None)
                granted.append(Attempt(task_id, nonce, verdict, worker, self.now_ms))
            elif verdict == WAIT and owner is not None:
                assert self.live(owner), f"{task_id} waits for {owner}"
        assert sum(reply.verdict > 0 and reply.crashes >= SUSPECT_FROM for reply in replies) <= suspects
        return granted

    @rule(worker=workers, task_id=ids)
    def claim_under_a_foreign_id(self, worker: str, task_id: str) -> None:
        """Nobody has it from there, and nothing changes, whatever state the task is in."""
        before = self.run(self.harnesses[0].dump())
        if before.get(task_id, {}).get("h") != HOME or worker in self.buried:
            return
        self.nonces += 1
        claims = [Claim(task_id, f"n{self.nonces}", ELSEWHERE)]
        (reply,) = self.call(lambda store: store.tasks.claim(worker, claims, 1))
        # After a return to older data a worker may be certified dead again.
        assert reply.verdict == (WAIT if self.rough and reply.verdict == WAIT else FOREIGN)
        assert self.run(self.harnesses[0].dump()) == before
        self.calls.pop()  # repeated after a loss of data it would be the first

    @rule(attempt=attempts, restore=st.booleans())
    def renew(self, attempt: Attempt, restore: bool) -> None:
        lease = self.lease(attempt, restore)
        (held,) = self.call(lambda store: store.tasks.renew(attempt.worker, [lease]))
        self.hold(attempt)
        if self.rough:
            return
        owner = self.owners.get(attempt.task_id)
        if owner is not None and self.gives_way(owner, lease):
            owner = None
        if held:
            assert owner is None or owner.nonce == attempt.nonce, f"{attempt} took the lease from {owner}"
            assert owner is not None or (lease.restorable and attempt.task_id not in self.finals)
            if owner is None:
                self.calls.clear()  # a lease written anew: what was refused for want of it would be granted now
            self.own(attempt)
            attempt.confirmed_ms = self.now_ms
        else:
            assert owner is None or owner.nonce != attempt.nonce, f"{attempt} was refused and owns the task"

    def hold(self, attempt: Attempt) -> None:
        """Attempt 0 of a damaged task may write itself again after a loss of all data: the damage is back."""
        if not attempt.number:
            self.rough = self.ever_rough = True

    @rule(attempt=attempts)
    def release(self, attempt: Attempt) -> None:
        (given,) = self.call(lambda store: store.tasks.release([self.lease(attempt, False)]))
        if self.rough:
            return
        owner = self.owners.get(attempt.task_id)
        if owner is not None and owner.nonce == attempt.nonce:
            assert given
            del self.owners[attempt.task_id]
        attempt.ended = attempt.ended or given

    @rule(
        attempt=attempts,
        status=st.sampled_from([TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.RETRYING]),
        delayed=st.booleans(),
        large=st.booleans(),
        restore=st.booleans(),
    )
    def finish(self, attempt: Attempt, status: TaskStatus, delayed: bool, large: bool, restore: bool) -> None:
        if attempt.number == 0 and status is TaskStatus.RETRYING:
            status = TaskStatus.FAILED  # what is held as damaged is never run, so it is never tried again
        payload = b'"%s"' % (attempt.nonce.encode() * (40 if large else 1))
        lease = self.lease(attempt, restore)
        end = Finish(
            attempt.task_id, attempt.nonce, attempt.number, status, payload, delayed * DELAY_MS, lease.restorable, HOME
        )
        (accepted,) = self.call(lambda store: store.tasks.finish([end]))
        self.hold(attempt)
        if self.rough:
            return
        owner = self.owners.get(attempt.task_id)
        if owner is not None and self.gives_way(owner, lease):
            owner = None
        owned = owner is not None and owner.nonce == attempt.nonce
        repeated = self.ends.get(attempt.task_id) == (attempt.nonce, status)
        if not accepted:
            assert not owned, f"{attempt} was fenced and owns the task"
            return
        attempt.ended = True
        if owned or not repeated:
            assert owned or (owner is None and lease.restorable), f"accepted from {attempt}, and {owner} owns the task"
            self.note_end(attempt, end)

    def note_end(self, attempt: Attempt, end: Finish) -> None:
        task_id = attempt.task_id
        assert task_id not in self.finals, "a final state never changes"
        self.owners.pop(task_id, None)
        self.unknown_until.pop(task_id, None)
        self.highest[task_id] = max(self.highest[task_id], attempt.number)
        self.ends[task_id] = (attempt.nonce, end.status)
        if end.status.final:
            snapshot = Snapshot(end.status, attempt.number, end.payload)
            self.finals[task_id] = (snapshot, self.now_ms + RESULT_TTL_S * 1000)
            for channel in self.waiting.pop(task_id, ()):
                self.expected_news[channel].append((task_id, (end.status, attempt.number)))

    @rule(channel=st.sampled_from(CHANNELS), batch=batches)
    def wait(self, channel: str, batch: list[str]) -> None:
        for task_id, found in zip(batch, self.call(lambda store: store.tasks.wait(channel, batch)), strict=True):
            if self.rough:
                continue
            if task_id in self.finals:
                assert found == self.finals[task_id][0]
            else:
                assert found is None or not found.status.final
                self.waiting[task_id].add(channel)
                if found is None:
                    self.unknown_until[task_id] = self.now_ms + WAIT_TTL_S * 1000

    @rule(channel=st.sampled_from(CHANNELS), batch=batches)
    def unwait(self, channel: str, batch: list[str]) -> None:
        self.call(lambda store: store.tasks.unwait(channel, batch))
        # Late, it would take off a waiter that has come back since: that one hears of the end by its next re-check.
        self.calls.clear()
        for task_id in batch:
            self.waiting[task_id].discard(channel)

    @rule(worker=workers, outside=st.booleans())
    def bury(self, worker: str, outside: bool) -> None:
        self.call(lambda store: store.deaths.bury(worker, outside=outside))
        if outside:
            self.ended_from_outside.add(worker)
        hour_ago = self.now_ms - 3_600_000
        self.buried = {name: at for name, at in self.buried.items() if at >= hour_ago} | {worker: self.now_ms}

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A client repeats a call whose answer was lost. Time has not passed since, but other things have happened."""
        if not self.calls:
            return
        before = self.states()
        rough = self.rough
        call = data.draw(st.sampled_from(self.calls), label="call")
        latest = call is self.calls[-1]
        self.call(call)
        if latest:
            assert rough or self.states() == before, "the repeat of the latest call changed something"
        if not rough:
            self.look_again()

    # What fate does

    @rule(steps=st.sampled_from([1, 1, 2, 9, 18]))
    def advance(self, steps: int) -> None:
        self.calls.clear()
        for harness in self.harnesses:
            self.run(harness.advance(steps * STEP_MS))
        self.now_ms += steps * STEP_MS
        for task_id in [task_id for task_id, (_, until_ms) in self.finals.items() if self.now_ms > until_ms]:
            self.forget(task_id)
        for task_id in [task_id for task_id, until_ms in self.unknown_until.items() if self.now_ms > until_ms]:
            if self.owners.get(task_id) is None and self.states()[task_id] is None:
                self.waiting.pop(task_id, None)
            del self.unknown_until[task_id]

    @rule()
    def flush(self) -> None:
        self.calls.clear()
        for harness in self.harnesses:
            self.run(harness.flush())
        for task_id in IDS:
            self.forget(task_id)
        self.waiting.clear()
        self.unknown_until.clear()
        self.buried.clear()
        self.rough = False

    @rule(task_id=ids)
    def damage(self, task_id: str) -> None:
        self.rough = self.ever_rough = True
        for harness in self.harnesses:
            self.run(harness.damage(task_id))

    @rule()
    def save(self) -> None:
        self.saved = True
        for harness in self.harnesses:
            self.run(harness.save())

    @precondition(lambda machine: machine.saved)
    @rule()
    def restore(self) -> None:
        self.rough = self.ever_rough = True
        for harness in self.harnesses:
            self.run(harness.restore())

    # What must hold

    @invariant()
    def final_states_stand(self) -> None:
        states = self.states()
        if self.rough:
            return
        for task_id, (snapshot, _) in self.finals.items():
            assert states[task_id] == snapshot
        for task_id, state in states.items():
            assert not isinstance(state, Unreadable)
            assert (state is not None and state.status.final) == (task_id in self.finals)
            running = state is not None and state.status is TaskStatus.IN_PROGRESS
            assert running == (task_id in self.owners), f"{task_id}: {state}, {self.owners.get(task_id)}"

    @invariant()
    def stores_agree(self) -> None:
        first, *others = [self.run(harness.dump()) for harness in self.harnesses]
        for other in others:
            assert first == other

    def teardown(self) -> None:
        news = {}
        try:
            if not self.rough:
                self.no_task_is_lost()
        finally:
            for harness in self.harnesses:
                news[harness.name] = {channel: self.run(harness.news(channel)) for channel in CHANNELS}
                self.run(harness.flush())
        if self.ever_rough:
            first, *others = news.values()
            for other in others:
                assert_same_news(first, other)
            return
        for heard in news.values():
            # Without payloads: those of long ago have expired meanwhile.
            lines = {
                channel: [(task_id, told[:2]) for message in heard[channel] for task_id, told in message]
                for channel in CHANNELS
            }
            assert lines == self.expected_news, "each end is told once to each waiter"

    def no_task_is_lost(self) -> None:
        """Every task is final, or is granted to whoever asks when the time has come."""
        for turn, task_id in enumerate(IDS):
            claims = [Claim(task_id, f"last{turn}", HOME)]
            (reply,) = self.call(partial(claim_last, claims, 0))
            if reply.verdict == WAIT:
                assert reply.wait_ms <= max(LEASE_MS, DELAY_MS)
            if reply.verdict in (WAIT, SUSPECT):
                self.advance(2)
                (reply,) = self.call(partial(claim_last, claims, 1))
            assert reply.verdict > 0 or task_id in self.finals

    # Bookkeeping

    def states(self) -> dict[str, Found]:
        async def on_all() -> list[list[Found]]:
            await self.synchronise()
            return [await harness.store.tasks.snapshots(IDS) for harness in self.harnesses]

        first, *others = self.run(on_all())
        for other in others:
            assert first == other
        return dict(zip(IDS, first, strict=True))

    def look_again(self) -> None:
        """After an echo, whose effect on its task is legal and not worth a model: take ownership as it is now."""
        for task_id, fields in self.run(self.harnesses[0].dump()).items():
            owner = self.owners.get(task_id)
            if fields.get("s") == "I" and (owner is None or owner.nonce != fields["n"]):
                assert owner is None or not self.live(owner), f"{owner} lost {task_id} to an echo"
                assert int(fields["a"]) > self.highest[task_id]
                self.highest[task_id] = int(fields["a"])
                self.owners[task_id] = Owner(fields["n"], int(fields["a"]), fields["w"], self.now_ms + LEASE_MS)
            elif fields.get("s") == "I" and owner is not None:
                owner.until_ms = max(owner.until_ms, self.now_ms)
            self.crashes[task_id] = int(fields.get("k", 0))

    def lease(self, attempt: Attempt, restore: bool) -> Lease:
        """A worker says "restorable" only of a lease that it knows it has held within the lease's time."""
        lately = not attempt.ended and self.now_ms - attempt.confirmed_ms < LEASE_MS
        return Lease(attempt.task_id, attempt.nonce, attempt.number, restore and lately, HOME)

    def live(self, owner: Owner) -> bool:
        return owner.worker not in self.buried and owner.until_ms > self.now_ms

    def gives_way(self, owner: Owner, lease: Lease) -> bool:
        """A lease that is over, of an older attempt: only of a data set that has begun again, as attempts count up."""
        return owner.until_ms <= self.now_ms and owner.number < lease.attempt and lease.restorable

    def own(self, attempt: Attempt) -> None:
        self.owners[attempt.task_id] = Owner(attempt.nonce, attempt.number, attempt.worker, self.now_ms + LEASE_MS)
        self.highest[attempt.task_id] = max(self.highest[attempt.task_id], attempt.number)
        self.unknown_until.pop(attempt.task_id, None)

    def forget(self, task_id: str) -> None:
        self.owners.pop(task_id, None)
        self.finals.pop(task_id, None)
        self.ends.pop(task_id, None)
        self.highest.pop(task_id, None)
        self.crashes.pop(task_id, None)


def assert_same_news(one: Any, other: Any) -> None:
    for channel in CHANNELS:
        heard, heard2 = (
            [sorted((id_, told[:2]) for id_, told in message) for message in news[channel]] for news in (one, other)
        )
        assert heard == heard2


def assert_same(one: Any, other: Any) -> None:
    """Equal answers, but for the milliseconds that pass between two calls."""
    if isinstance(one, list) and one and isinstance(one[0], ClaimReply):
        for reply, reply2 in zip(one, other, strict=True):
            assert reply._replace(wait_ms=0) == reply2._replace(wait_ms=0), f"{one} and {other}"
            assert abs(reply.wait_ms - reply2.wait_ms) <= TOLERANCE_MS, f"{one} and {other}"
            assert (reply.wait_ms > 0) == (reply2.wait_ms > 0)
    else:
        assert one == other
