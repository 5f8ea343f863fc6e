"""Whatever answers come from the address of Redis: typed errors or sound values, in time, and the process goes on."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_redis import CLOSE, SILENCE, FakeRedis, reply
from tests.support.fuzzing import MINUTES, fuzz
from tests.support.poll import eventually
from yadtq.errors import StoreRefused, StoreUnavailable
from yadtq.settings import Settings
from yadtq.store.redis import RedisStore
from yadtq.store.tasks.redis import parse_news
from yadtq.store.tasks.verbs import FOREIGN, Claim, ClaimReply, Finish, Lease, Snapshot, Unreadable
from yadtq.store.verbs import DataSet
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

IDS = ["a", "b"]
TIMEOUT_S = 0.3
LARGE = b'"' + b"x" * 100 + b'"'

words = st.sampled_from(
    [b"S", b"Q", b"I", b"F", b"R", b"!", b"1", b"0", b"@nS", b"subscribe", b"message", b"pong", b""]
)
numbers = st.integers(-4, 3) | st.integers(-(2**63), 2**63 - 1)
texts = st.sampled_from(["OK", "PONG", "QUEUED", ""]) | st.text(max_size=10)
codes = st.sampled_from(
    [
        "NOSCRIPT",
        "NOPERM",
        "NOAUTH",
        "WRONGPASS",
        "WRONGTYPE",
        "READONLY",
        "LOADING",
        "OOM",
        "MOVED",
        "BUSY",
        "ERR",
        "-",
    ]
)
errors = st.builds(lambda code, text: RuntimeError(f"{code} {text}"), codes, st.text(max_size=20))
leaves = st.none() | words | st.binary(max_size=20) | numbers | texts | errors
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=9), max_leaves=24)
#: Of a shape that some verb expects, so that its parts are looked at.
likely = (
    st.lists(numbers, min_size=8, max_size=8)
    | st.lists(st.integers(0, 1), min_size=2, max_size=2)
    | st.lists(leaves, min_size=6, max_size=6)
    | st.lists(leaves, min_size=2, max_size=2)
    | st.tuples(words, words, st.integers(0, 3)).map(list)
)
garbage = st.binary(max_size=40) | st.sampled_from(
    [
        b"$-2\r\n",
        b"*-5\r\n",
        b"$999999999999\r\n",
        b"*9999999\r\n",
        b":\r\n",
        b"*1\r\n" * 30,
        b"\r\n",
        b"+",
        b">2\r\n+a\r\n+b\r\n",
    ]
)
replies = (
    values.map(reply)
    | likely.map(lambda parts: reply([*parts]))
    # What is cut short would be waited for until the deadline, so the connection ends with most of it.
    | st.tuples(garbage | values.map(reply), st.just(CLOSE))
    | st.just(CLOSE)
)


def verbs(store: RedisStore) -> list[Callable[[], Awaitable[Any]]]:
    tasks = store.tasks
    leases = [Lease(id_, "n", 1, True) for id_ in IDS]
    return [
        store.start,
        lambda: tasks.register(IDS),
        lambda: tasks.claim("w", [Claim(id_, "n") for id_ in IDS], 1),
        lambda: tasks.renew("w", leases),
        lambda: tasks.release(leases),
        lambda: tasks.finish([Finish(id_, "n", 1, S.SUCCESS, LARGE) for id_ in IDS]),
        lambda: tasks.snapshots(IDS),
        lambda: tasks.wait("c", IDS),
        lambda: tasks.unwait("c", IDS),
        lambda: tasks.fetch_large(IDS, [Snapshot(S.SUCCESS, 1, b"@nS"), None]),
        lambda: store.deaths.bury("w"),
        store.data_set,
    ]


def is_sound(answer: Any) -> bool:
    """What the protocol of the verbs allows."""
    if answer is None or isinstance(answer, bool):
        return True
    if isinstance(answer, DataSet):
        return answer.age_s >= 0
    assert len(answer) == len(IDS)
    for item in answer:
        match item:
            case bool() | None | Unreadable():
                pass
            case ClaimReply():
                assert all(type(number) is int for number in item)
                assert item.verdict >= FOREIGN
            case Snapshot():
                assert isinstance(item.status, S)
                assert type(item.attempt) is int
                assert item.attempt >= 0
                assert type(item.payload) is bytes
            case _:
                raise AssertionError(item)
    return True


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    async def no_tls(host: str, port: int) -> bool:
        """The second look at a server after a failed start: the fake one leaves it without an answer for two seconds."""
        return False

    monkeypatch.setattr("yadtq.store.contact.speaks_tls", no_tls)
    logging.getLogger("yadtq.store").setLevel(logging.CRITICAL)
    with asyncio.Runner() as runner:
        yield runner
    logging.getLogger("yadtq.store").setLevel(logging.NOTSET)


def open_store(server: FakeRedis) -> RedisStore:
    settings = Settings.load(redis=server.url, redis_timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)
    return RedisStore(settings, "shop", random.Random(1))


async def ask(verb: Callable[[], Awaitable[Any]]) -> Any:
    """Its answer, or the typed error that it raised. Fails if it takes longer than it may."""
    async with asyncio.timeout(TIMEOUT_S + 3):
        answer: Any = (await asyncio.gather(verb(), return_exceptions=True))[0]
    if isinstance(answer, BaseException):
        assert isinstance(answer, StoreUnavailable | StoreRefused), repr(answer)
        assert str(answer).isprintable()
    return answer


class Scripted:
    """Answers commands in turn with what it is given; the handshake mostly as it should be."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.polite = True
        self._then: Any = None
        self._turn = 0

    def give(self, answers: list[Any], *, polite: bool = True, then: Any = None) -> None:
        """then: what comes for all commands after those; else they begin again."""
        self.answers, self.polite, self._then, self._turn = answers, polite, then, 0

    def __call__(self, command: list[bytes]) -> Any:
        if self.polite and command[0] in (b"CLIENT", b"SELECT", b"HELLO"):
            return reply("OK")
        self._turn += 1
        if self._then is not None and self._turn > len(self.answers):
            return self._then
        return self.answers[(self._turn - 1) % len(self.answers)]


@pytest.mark.timeout(90 + MINUTES * 60)
def test_verbs(runner: asyncio.Runner) -> None:
    script = Scripted()
    server = FakeRedis(script)
    runner.run(server.start())
    store = open_store(server)

    @given(st.integers(0, len(verbs(store)) - 1), st.lists(replies, min_size=1, max_size=3), st.integers(0, 9))
    def test(number: int, answers: list[Any], polite: int) -> None:
        script.give(answers, polite=polite > 0)
        answer = runner.run(ask(verbs(store)[number]))
        assert isinstance(answer, Exception) or is_sound(answer)

    try:
        fuzz(test, examples=300)
        # And the same store serves as soon as Redis is there.
        script.give([reply([1, 0, 0, 0] * 2)])
        assert runner.run(ask(verbs(store)[2])) == [ClaimReply(1)] * 2
    finally:
        runner.run(store.aclose())
        runner.run(server.stop())


@pytest.mark.parametrize("number", range(12))
def test_silence_ends_at_the_deadline(runner: asyncio.Runner, number: int) -> None:
    async def run() -> None:
        async with FakeRedis(lambda _: SILENCE) as server:
            store = open_store(server)
            try:
                assert isinstance(await ask(verbs(store)[number]), StoreUnavailable)
            finally:
                await store.aclose()

    runner.run(run())


SUBSCRIBED = reply([b"subscribe", b"yadtq:{shop}:c:c", 1])


@pytest.mark.timeout(90 + MINUTES * 60)
def test_subscriptions(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is pushed, the subscription goes on, and hears what comes after it."""
    monkeypatch.setattr("yadtq.store.subscription._RETRY_S", 0.001)
    script = Scripted()
    server = FakeRedis(script)
    runner.run(server.start())
    store = open_store(server)
    told = reply([b"message", b"yadtq:{shop}:c:c", b"t\tS\t1\t5"])

    async def hear(pushed: list[Any]) -> None:
        news: list[Any] = []
        service = store.hear_ends("c", news.extend, lambda: None)
        script.give(pushed, then=SUBSCRIBED + told)
        run = asyncio.create_task(service.run())
        try:
            await eventually(
                lambda: ("t", Snapshot(S.SUCCESS, 1, b"5")) in news or run.done(),
                timeout=10,
                interval=0.001,
                what=repr(pushed),
            )
            assert not run.done(), repr(run)
        finally:
            service.stop()
            await run

    messages = st.tuples(
        st.sampled_from([b"message", b"subscribe", b"pmessage", b"pong", b"unsubscribe"]), leaves, leaves
    )
    pushes = st.lists((messages.map(lambda parts: reply([*parts])) | replies).map(with_end), min_size=1, max_size=3)

    @given(pushes)
    def test(pushed: list[Any]) -> None:
        runner.run(hear(pushed))

    try:
        fuzz(test, examples=50)
    finally:
        runner.run(store.aclose())
        runner.run(server.stop())


def with_end(answer: Any) -> Any:
    """After its confirmation; then the connection ends, so that the next answer is asked for."""
    pushed = answer[0] if isinstance(answer, tuple) else answer
    return (SUBSCRIBED + pushed, CLOSE) if isinstance(pushed, bytes) else CLOSE


@pytest.mark.timeout(90 + MINUTES * 60)
def test_news() -> None:
    line = st.tuples(
        st.binary(max_size=10), words, st.sampled_from([b"1", b"-1", b"\xb2", b"9" * 20]), st.binary(max_size=9)
    )

    @given(st.binary() | st.lists(line.map(b"\t".join) | st.binary(max_size=9)).map(b"\n".join))
    def test(message: bytes) -> None:
        for task_id, snapshot in parse_news(message):
            assert isinstance(task_id, str)
            assert snapshot.status.final
            assert snapshot.attempt >= 0

    fuzz(test, examples=500)
