"""Calls that meet become one, as long as the one before is under way (D9)."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.runtime.microbatch import MicroBatch

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wire:
    """A `send` that answers when it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self._answers: list[asyncio.Future[list[int]]] = []

    async def send(self, items: Sequence[int]) -> list[int]:
        self.sent.append(list(items))
        self._answers.append(asyncio.get_running_loop().create_future())
        return await self._answers[-1]

    def answer(self, at: int = -1) -> None:
        self._answers[at].set_result([item * 10 for item in self.sent[at]])

    def fail(self, error: BaseException, at: int = -1) -> None:
        self._answers[at].set_exception(error)


async def ticks(count: int = 4) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def wire() -> Wire:
    return Wire()


async def test_what_meets_in_one_tick_leaves_together(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    answers = [batch.add(item) for item in (1, 2, 3)]
    assert wire.sent == [], "nothing leaves before the tick ends"
    await ticks()
    assert wire.sent == [[1, 2, 3]]
    wire.answer()
    assert await asyncio.gather(*answers) == [10, 20, 30]


async def test_what_comes_meanwhile_waits_and_leaves_together(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    first = batch.add(1)
    await ticks()
    later = [batch.add(2)]
    await ticks()
    later.append(batch.add(3))
    await ticks()
    assert wire.sent == [[1]]
    wire.answer()
    assert await first == 10
    await ticks()
    assert wire.sent == [[1], [2, 3]]
    wire.answer()
    assert await asyncio.gather(*later) == [20, 30]


async def test_an_idle_batch_starts_at_once_again(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    for round_ in range(3):
        answer = batch.add(round_)
        await ticks()
        wire.answer()
        assert await answer == round_ * 10
    assert wire.sent == [[0], [1], [2]]


async def test_no_call_is_larger_than_the_limit(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60, limit=2)
    answers = [batch.add(item) for item in range(5)]
    for _ in range(3):
        await ticks()
        wire.answer()
    assert await asyncio.gather(*answers) == [0, 10, 20, 30, 40]
    assert wire.sent == [[0, 1], [2, 3], [4]]


async def test_only_so_many_calls_are_under_way(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60, limit=1, at_once=2)
    answers = [batch.add(item) for item in range(4)]
    await ticks()
    assert wire.sent == [[0], [1]]
    wire.answer(1)
    await ticks()
    assert wire.sent == [[0], [1], [2]], "a free place is taken, in order"
    for at in (0, 2):
        wire.answer(at)
    await ticks()
    wire.answer(3)
    assert await asyncio.gather(*answers) == [0, 10, 20, 30]


async def test_an_error_goes_to_every_caller_of_its_batch_and_to_no_other(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    failing = [batch.add(1), batch.add(2)]
    await ticks()
    spared = batch.add(3)
    wire.fail(ConnectionError("gone"))
    await ticks()
    wire.answer()
    for answer in failing:
        with pytest.raises(ConnectionError, match="gone"):
            await answer
    assert await spared == 30


async def test_an_error_that_nobody_waits_for_is_no_complaint(wire: Wire) -> None:
    # The fixture `asyncio_errors` fails this test if "exception was never retrieved" is logged.
    batch = MicroBatch(wire.send, timeout_s=60)
    batch.add(1)
    await ticks()
    wire.fail(ConnectionError("gone"))
    await batch.aclose()


async def test_a_caller_that_gives_up_in_the_queue_takes_its_item_back(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    answers = [batch.add(item) for item in (1, 2, 3)]
    answers[0].cancel()
    await ticks()
    assert wire.sent == [[2, 3]]
    wire.answer()
    assert await asyncio.gather(*answers[1:]) == [20, 30]


async def test_one_that_gives_up_later_leaves_the_others_their_answers(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    answers = [batch.add(item) for item in (1, 2)]
    await ticks()
    answers[0].cancel()
    wire.answer()
    assert await answers[1] == 20


async def test_if_all_in_the_queue_give_up_nothing_is_sent(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    for answer in [batch.add(1), batch.add(2)]:
        answer.cancel()
    await batch.aclose()
    assert wire.sent == []


async def test_whoever_waits_too_long_is_told_queued_or_sent(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=0.02)
    sent = batch.add(1)
    await ticks()
    queued = batch.add(2)
    for answer in (sent, queued):
        with pytest.raises(TimeoutError, match="no answer"):
            await asyncio.wait_for(answer, 5)
    wire.answer()
    await batch.aclose()
    assert wire.sent == [[1]], "an item that has timed out in the queue is not sent"


async def test_the_clock_starts_anew_for_each_item(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=0.02)
    for item in (1, 2):
        answer = batch.add(item)
        await ticks()
        wire.answer()
        assert await answer == item * 10
    overdue = batch.add(3)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(overdue, 5)
    wire.answer()
    await batch.aclose()


async def test_what_is_answered_is_not_kept_until_its_deadline(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    answers = [batch.add(item) for item in (1, 2)]
    await ticks()
    wire.answer()
    assert await asyncio.gather(*answers) == [10, 20]
    remembered = [weakref.ref(answer) for answer in answers]
    del answers
    await ticks()
    gc.collect()
    assert [reference() for reference in remembered] == [None, None]


async def test_one_alone_goes_at_once_and_the_next_ones_wait_for_it(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    calls = [asyncio.ensure_future(batch.run(item)) for item in (1, 2, 3)]
    await ticks(1)
    assert wire.sent == [[1]]
    wire.answer()
    await ticks()
    assert wire.sent == [[1], [2, 3]]
    wire.answer()
    assert await asyncio.gather(*calls) == [10, 20, 30]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_one_alone_that_ends_badly_lets_the_next_go(wire: Wire, how: str) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    first = asyncio.ensure_future(batch.run(1))
    await ticks(1)
    second = batch.add(2)
    if how == "fails":
        wire.fail(ConnectionError("gone"))
    else:
        first.cancel()
    await ticks()
    wire.answer()
    assert await second == 20
    (outcome,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(outcome, ConnectionError if how == "fails" else asyncio.CancelledError)


async def test_closing_while_one_alone_is_under_way_waits(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    direct = asyncio.ensure_future(batch.run(1))
    await ticks(1)
    queued = batch.add(2)
    flush, calls = batch._flush, iter(range(100))

    def limited() -> None:
        assert next(calls, None) is not None, "aclose() spins"
        flush()

    monkeypatch.setattr(batch, "_flush", limited)
    closing = asyncio.ensure_future(batch.aclose())
    await ticks(1)
    wire.answer(0)
    await ticks()
    if len(wire.sent) > 1:
        wire.answer(1)
    await asyncio.gather(direct, queued, closing)


@pytest.mark.parametrize("answers", [[1], [1, 2, 3]])
async def test_a_wrong_number_of_answers_hangs_nobody(answers: list[int]) -> None:
    async def send(items: Sequence[int]) -> list[int]:
        return answers

    batch = MicroBatch(send, timeout_s=60)
    callers = [batch.add(1), batch.add(2)]
    outcomes = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5)
    assert any(isinstance(outcome, ValueError) for outcome in outcomes) or len(answers) > len(callers)


async def test_a_send_that_fails_before_its_first_await(wire: Wire) -> None:
    async def send(items: Sequence[int]) -> list[int]:
        raise ValueError("at once")

    batch = MicroBatch(send, timeout_s=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="at once"):
            await batch.add(1)


async def test_closing_waits_for_all_that_was_given(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60, limit=1)
    answers = [batch.add(item) for item in (1, 2)]
    closing = asyncio.ensure_future(batch.aclose())
    for _ in answers:
        await ticks()
        assert not closing.done()
        wire.answer()
    await asyncio.wait_for(closing, 5)
    assert [answer.result() for answer in answers] == [10, 20]


async def test_closing_an_idle_one_returns(wire: Wire) -> None:
    await asyncio.wait_for(MicroBatch(wire.send, timeout_s=60).aclose(), 5)


async def test_a_cancelled_call_cancels_its_callers_and_the_next_goes_on(wire: Wire) -> None:
    batch = MicroBatch(wire.send, timeout_s=60)
    answer = batch.add(1)
    await ticks()
    wire.fail(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await answer
    after = batch.add(2)
    await ticks()
    wire.answer()
    assert await after == 20


@given(
    limit=st.integers(1, 5),
    at_once=st.integers(1, 3),
    steps=st.lists(st.sampled_from(["add", "add", "tick", "answer", "fail"]), max_size=40),
)
def test_in_any_order_of_events_each_item_leaves_once_in_order(limit: int, at_once: int, steps: list[str]) -> None:
    async def scenario() -> None:
        wire = Wire()
        batch = MicroBatch(wire.send, timeout_s=60, limit=limit, at_once=at_once)
        callers: list[asyncio.Future[int]] = []
        open_: list[int] = []
        failed: set[int] = set()

        def settle(how: str) -> None:
            open_.extend(range(len(open_) + len(settled), len(wire.sent)))
            if open_:
                at = open_.pop(0)
                settled.append(at)
                if how == "fail":
                    failed.update(wire.sent[at])
                    wire.fail(ConnectionError(), at)
                else:
                    wire.answer(at)

        settled: list[int] = []
        for step in steps:
            if step == "add":
                callers.append(batch.add(len(callers)))
            elif step == "tick":
                await ticks(1)
            else:
                settle(step)
            assert len(wire.sent) - len(settled) <= at_once + 1
        while not all(caller.done() for caller in callers):
            await ticks()
            settle("answer")
        await batch.aclose()
        assert [item for items in wire.sent for item in items] == list(range(len(callers)))
        assert all(len(items) <= limit for items in wire.sent)
        for item, caller in enumerate(callers):
            assert isinstance(caller.exception(), ConnectionError) if item in failed else caller.result() == item * 10

    asyncio.run(scenario())
