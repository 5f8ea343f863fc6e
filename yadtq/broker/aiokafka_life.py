"""The life of an aiokafka client: connected under a deadline, stopped under a deadline, and judged in between.

The only file that touches private names of aiokafka (a test looks for others): what the library does not offer, and
workarounds for its bugs, are here, so that a new version has to be checked against one file only.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from yadtq.broker.contact import Refusal, refusal
from yadtq.broker.quiet import quieten
from yadtq.errors import BrokerUnavailable, ConfigError
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator

    from aiokafka import TopicPartition

__all__ = ["advice_for", "committed", "connected", "fetched", "health", "led_to", "may_pass", "stopped", "wire"]

log = logging.getLogger("yadtq.broker")

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient, AIOKafkaClient)

_RETRY_S = 0.2
#: For a client that was never used: there is nothing to wait for.
_DISCARD_S = 2.0
_CUT_OFF_S = 2.0
#: For the other side to agree to the end of a connection.
_CLOSED_S = 1.0
#: Errors that only a changed setting can fix, and which setting.
_SETTINGS: dict[type[BaseException] | None, str] = {
    InvalidSessionTimeoutError: "the brokers don't allow this session_timeout_s (YADTQ_SESSION_TIMEOUT_S): it must lie "
    "between their group.min.session.timeout.ms (6 s by default) and group.max.session.timeout.ms",
    InconsistentGroupProtocolError: "a client that is no worker of this version is in the consumer group: stop it, or give "
    "the app another name",
    GroupAuthorizationFailedError: "this Kafka user may not use the consumer group ({}): grant it READ on it, "
    "or see kafka_user (YADTQ_KAFKA_USER)",
    TopicAuthorizationFailedError: "this Kafka user may not use the topic ({}): grant it READ and WRITE, or see "
    "kafka_user (YADTQ_KAFKA_USER)",
    IllegalSaslStateError: "it takes no login, or has refused the token: see kafka_sasl (YADTQ_KAFKA_SASL), kafka_token",
    ClusterAuthorizationFailedError: "this Kafka user may not do this on the cluster ({}): grant it CREATE on topics, or "
    "see kafka_user (YADTQ_KAFKA_USER)",
}


async def connected(
    make: Callable[[], Client],
    seconds: float,
    what: str,
    *,
    prepare: Callable[[Client], Awaitable[None]] | None = None,
    at_start: bool = False,
) -> Client:
    """A started client, on which `prepare` has been awaited.

    seconds: for everything together. A server that is not up yet is tried again until then: processes and servers are
    started at the same time. what: what can't be done without the client, for the message. Raises `BrokerUnavailable`.
    at_start: the process is starting. Then an error that only a changed setting can fix is a `ConfigError`. Later it is
    an outage like any other, because somebody has changed the server.
    """
    quieten()
    problem: BaseException | None = None
    tries: list[Client] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await _one_try(make, prepare, tries)
                except (KafkaError, OSError) as error:
                    problem = problem or error  # the deadline may end the look for a better reason
                    reason = await refusal(*_way_in(tries[-1])) if _is_no_contact(error) and tries else None
                    problem = reason or error
                    if not may_pass(problem):
                        break
                await asyncio.sleep(_RETRY_S)
    except TimeoutError as error:
        problem = problem or error
    advice = advice_for(problem)
    if advice is not None and at_start:
        raise ConfigError(f"{what}: {advice}") from problem
    reason = advice or str(problem) or f"no answer within {seconds:g} s"
    led = led_to(tries[-1]) if tries else ""
    if not led and _is_no_contact(problem):
        led = "; is it running, and is YADTQ_KAFKA right?"
    raise BrokerUnavailable(f"{what}: {reason}{led}") from problem


def advice_for(problem: BaseException | None) -> str | None:
    """What to change, if only a changed setting or another right can help."""
    if problem is None or isinstance(problem, Refusal):
        return None if problem is None else str(problem)
    advice = _SETTINGS.get(type(problem))
    named = ", ".join(str(argument) for argument in problem.args) if isinstance(problem, KafkaError) else ""
    return advice.format(shown(named) if named else "what it asked for") if advice else None


async def _one_try(
    make: Callable[[], Client], prepare: Callable[[Client], Awaitable[None]] | None, tries: list[Client]
) -> Client:
    client = make()
    tries[:] = [client]
    try:
        with _bootstrapping():
            await (client.bootstrap() if isinstance(client, AIOKafkaClient) else client.start())
        inner = client if isinstance(client, AIOKafkaClient) else wire(client)
        if inner._sasl_mechanism == "OAUTHBEARER" and not inner.cluster.brokers():
            # aiokafka does not read that a token was refused, and takes the answer for metadata without brokers.
            raise KafkaConnectionError("it answers, but names no brokers")
        if prepare is not None:
            await prepare(client)
    except BaseException:  # also a cancellation: nobody else knows of this client
        await stopped(client, _DISCARD_S)
        raise
    return client


def _way_in(client: Client) -> tuple[list[tuple[str, int, Any]], dict[str, Any]]:
    """The bootstrap servers of a client, and how it connects to them: for one more connection like its own."""
    inner = client if isinstance(client, AIOKafkaClient) else wire(client)
    names = (
        *("client_id", "request_timeout_ms", "ssl_context", "security_protocol", "sasl_mechanism"),
        *("sasl_plain_username", "sasl_plain_password", "sasl_oauth_token_provider"),
    )
    return inner.hosts, {name: getattr(inner, f"_{name}") for name in names}


def led_to(client: Client) -> str:
    """Where the brokers have sent this client, if it could not get there; "" if it did, or has not come so far."""
    inner = client if isinstance(client, AIOKafkaClient) else wire(client)
    brokers = inner.cluster.brokers()
    if not brokers or any(node != "bootstrap" for node, _ in inner._conns):
        return ""
    addresses = ", ".join(sorted(f"{broker.host}:{broker.port}" for broker in brokers))
    return (
        f"; it answers, but sends its clients to {addresses}, which can't be reached from here: see advertised.listeners "
        "of the brokers"
    )


def _is_no_contact(error: BaseException | None) -> bool:
    return isinstance(error, OSError | KafkaConnectionError)


def may_pass(error: BaseException) -> bool:
    """Whether another try can help."""
    return _is_no_contact(error) or bool(getattr(error, "retriable", False))


@contextmanager
def _bootstrapping() -> Iterator[None]:
    """Around the start of a client: closes the connection that a cancelled start forgets.

    While aiokafka asks its first connection for metadata, only a local variable of `AIOKafkaClient.bootstrap` knows of
    it. A deadline that ends in that moment would leave it open until the garbage collector complains. So we look for it
    in the traceback, the only place that still refers to it.
    """
    try:
        yield
    except BaseException as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if (connection := frame.f_locals.get("bootstrap_conn")) is not None:
                connection.close()
        raise


async def stopped(client: Client, seconds: float) -> None:
    """Stop it, within about `seconds` and a few more to cut off what is left. Never raises, and is never cancelled
    half-way.

    In a task of its own: aiokafka's stop can hang. It can also end as cancelled although nobody cancelled it, because
    it awaits a helper task that it has cancelled.
    """
    writers = _writers(client)
    ending = asyncio.ensure_future(client.close() if _is_closed_by_close(client) else client.stop())
    with anyio.CancelScope(shield=True):
        await _ended(client, ending, seconds)
        await _until_closed(writers)


async def _ended(client: Client, ending: asyncio.Future[None], seconds: float) -> None:
    await asyncio.wait([ending], timeout=seconds)
    if not ending.done():
        log.warning("a %s did not stop within %g s and is cut off", type(client).__name__, seconds)
        ending.cancel()
        await asyncio.wait([ending], timeout=_CUT_OFF_S)
    if ending.done() and not ending.cancelled():
        if (error := ending.exception()) is None:
            return
        # The client is discarded: a broken one often can't stop cleanly, and nothing depends on it.
        log.debug("stopping a %s: %s", type(client).__name__, error)
    with anyio.move_on_after(_CUT_OFF_S):
        await _cut_off(client)


def _writers(client: Client) -> list[asyncio.StreamWriter]:
    """Of all its connections."""
    inner = client if isinstance(client, AIOKafkaClient) else wire(client)
    return [writer for each in inner._conns.values() if (writer := each._writer) is not None]


async def _until_closed(writers: Collection[asyncio.StreamWriter]) -> None:
    """aiokafka closes connections and does not wait. One with TLS takes a few rounds of the loop, and if the loop is
    closed before, as at the end of a blocking client, it stays open until the garbage collector finds it.
    """
    waits = [asyncio.ensure_future(writer.wait_closed()) for writer in writers]
    if waits:
        _, left = await asyncio.wait(waits, timeout=_CLOSED_S)
        for writer in writers:
            writer.transport.abort()  # does nothing to one that is closed
        for wait in left:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)  # a connection that broke: it is gone as well


def _is_closed_by_close(client: Any) -> bool:
    return isinstance(client, AIOKafkaAdminClient | AIOKafkaClient)


async def _cut_off(client: Any) -> None:
    """Close the connections of a client whose stop did not get that far; they and their helper tasks would never end."""
    if isinstance(client, AIOKafkaClient):
        return
    if not isinstance(client, AIOKafkaProducer):
        await client._client.close()
        return
    accumulator = client._message_accumulator
    accumulator.fail_all(KafkaConnectionError("the producer was given up"))
    for batches in accumulator._batches.values():
        for batch in batches:
            batch._drain_waiter.exception()  # marks it as seen: asyncio would report it as never retrieved
    await client.client.close()  # first: it fails what is on its way, and the sender waits for that
    await client._sender.close()


def wire(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> AIOKafkaClient:
    """The part that holds the connections, for requests of our own."""
    return client.client if isinstance(client, AIOKafkaProducer) else client._client


def health(client: AIOKafkaConsumer | AIOKafkaProducer) -> str | None:
    """Which helper task of the client has died, or None. aiokafka does not report it: such a client receives nothing
    more.
    """
    if isinstance(client, AIOKafkaProducer):
        helpers = {"sender": getattr(client._sender, "sender_task", None)}
    else:
        helpers = {
            "fetcher": getattr(client._fetcher, "_fetch_task", None),
            "coordination": getattr(client._coordinator, "_coordination_task", None),
        }
    dead = [name for name, task in helpers.items() if isinstance(task, asyncio.Task) and task.done()]
    return f"its {' and '.join(dead)} task has ended" if dead else None


async def committed(consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Any]:
    """Offset and metadata of what the group has committed there; `consumer.committed` returns the offset only."""
    found: dict[TopicPartition, Any] = await consumer._coordinator.fetch_committed_offsets(list(partitions))
    return found


async def fetched(
    consumer: AIOKafkaConsumer,
    partitions: frozenset[TopicPartition] | None,
    max_records: int,
    seconds: float,
    *,
    ready: Callable[[], bool] = lambda: True,
) -> tuple[dict[TopicPartition, list[Any]], dict[TopicPartition, Exception]]:
    """What `getmany` does, with an answer for each partition: its records, and the error that ends them.

    `getmany` loses what it has taken from one partition when the next can't be read, and looks every partition up in a
    tuple: with 127 of 128 partitions that means 8,000 comparisons a poll, a third of the cost of a task.
    ready: nothing is taken while it is false. After a rebalance aiokafka has records before its listener has returned.
    """
    fetcher, subscription = consumer._fetcher, consumer._subscription
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    consumer._coordinator.check_errors()
    with subscription.fetch_context():
        while True:
            if subscription.reassignment_in_progress:
                await subscription.wait_for_assignment()
            if not ready():
                return {}, {}
            records, errors = _drained(consumer, partitions, max_records)
            left = deadline - loop.time()
            if records or errors or left <= 0:
                return records, errors
            waiter = fetcher._create_fetch_waiter()
            await asyncio.wait([waiter], timeout=left)
            if not waiter.done() or fetcher._closed:
                waiter.cancel()
                return {}, {}
            waiter.result()  # raises what ended the coordination


def _drained(
    consumer: AIOKafkaConsumer, partitions: frozenset[TopicPartition] | None, left: int
) -> tuple[dict[TopicPartition, list[Any]], dict[TopicPartition, Exception]]:
    """What has been fetched. An error belongs to the records after those that come with it."""
    fetcher = consumer._fetcher
    records: dict[TopicPartition, list[Any]] = {}
    errors: dict[TopicPartition, Exception] = {}
    for partition, result in list(fetcher._records.items()):
        if partitions is not None and partition not in partitions:
            if not consumer._subscription.is_assigned(partition):
                del fetcher._records[partition]
            continue
        if left <= 0:
            break
        taken, error = ([], result._error) if isinstance(result, FetchError) else _taken(result, left)
        if error is not None or not result.has_more():
            del fetcher._records[partition]
            fetcher._notify(fetcher._wait_consume_future)  # it may fetch there again
        if taken:
            records[partition] = taken
            left -= len(taken)
        if error is not None:
            errors[partition] = error
    return records, errors


def _taken(result: FetchResult, most: int) -> tuple[list[Any], Exception | None]:
    taken: list[Any] = []
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return taken, None
    records = result._partition_records
    error: Exception | None = None
    is_over = True
    try:
        for record in records:
            taken.append(record)
            if len(taken) >= most:
                is_over = False
                break
    except Exception as problem:
        # Any exception: each codec raises its own types. The records before it are valid and are handed out.
        error = problem
    result._update_position()
    if is_over:
        result._partition_records = None
    return taken, error
