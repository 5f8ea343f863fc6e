"""A member of the consumer group that is rebuilt when it breaks.

aiokafka recovers from most outages by itself. Where it can't (one of its helper tasks has died, a fetch loop hangs;
aio-libs/aiokafka#1154, #847, #625), the consumer is discarded and a new one joins under the same static id. The
trackers of what is in flight live outside, so a rebuild looks like a rebalance and loses nothing.

Rebalances are eager: each one revokes all partitions and delivers uncommitted records again (positions and pauses are
lost too). The caller recognises records that it has seen.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError

from yadtq.broker.aiokafka_life import connected, health, stopped
from yadtq.broker.connecting import connection_options
from yadtq.broker.logwatch import LogWatch
from yadtq.broker.reader import Reader
from yadtq.broker.starts import mark_of
from yadtq.errors import BrokerUnavailable, ConfigError
from yadtq.runtime.outages import OutageLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, Partition
    from yadtq.settings import Settings

__all__ = ["KafkaTaskConsumer"]

log = logging.getLogger("yadtq.broker")

_COMMIT_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0
#: No answer to any fetch for so long, though fetches are under way: aiokafka's own recovery takes well under a second
#: once a broker answers again, so this only meets a consumer that is broken.
_STALL_S = 30.0
_ERRORS_BEFORE_REBUILD = 20
#: Between two rebuilds, doubled each time until records come again.
_REBUILD_S, _REBUILD_MOST_S = 0.5, 30.0


class _Assignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Round robin under a name of our own, which is the protocol of the group: a client of another kind that takes part
    in the group by mistake would be given partitions, and would commit what it has not run. Now Kafka refuses it.
    """

    name = "yadtq"


class KafkaTaskConsumer:
    """`seams.TaskConsumer` on aiokafka. One poll at a time."""

    def __init__(
        self, settings: Settings, group: str, topics: Sequence[str], *, clock: Clock, instance_id: str | None = None
    ) -> None:
        self._settings = settings
        self._group = group
        self._topics = list(topics)
        self._instance_id = instance_id
        self._clock = clock
        self._consumer: AIOKafkaConsumer | None = None
        self._watch = LogWatch(settings, topics, clock)
        self._rebuild_s = _REBUILD_S
        self._outages = OutageLog(log, clock, f"Kafka at {settings.kafka}, asked for records,")
        self._watermarks: Callable[[], Mapping[Partition, int]] = dict
        self._errors = 0
        self._last_answer = clock.monotonic()
        self._commit_under_way: asyncio.Task[Any] | None = None
        self.rebuilds = 0

    async def start(
        self,
        on_assigned: Callable[[Mapping[Partition, str]], None],
        watermarks: Callable[[], Mapping[Partition, int]],
    ) -> None:
        """Join the group. Raises `BrokerUnavailable` if that takes longer than `connect_timeout_s` and a rebalance."""
        self._watermarks = watermarks
        self._watch.start(on_assigned)
        try:
            self._consumer = await self._joined()
        except BaseException:  # also a cancellation: a consumer that has not started is not stopped by its owner
            await self._watch.stop()
            raise

    async def _joined(self) -> AIOKafkaConsumer:
        session_ms = int(self._settings.session_timeout_s * 1000)
        options = connection_options(self._settings)
        # A join waits for all members to come: abandoning it earlier would start the next rebalance.
        options["request_timeout_ms"] = max(options["request_timeout_ms"], session_ms + 5_000)
        seconds = self._settings.connect_timeout_s + 2 * self._settings.session_timeout_s
        consumer = await connected(
            lambda: self._made(options, session_ms),
            seconds,
            f"Kafka at {self._settings.kafka}: no place in group {self._group} within {seconds:g} s",
            at_start=True,
        )
        self._last_answer = self._clock.monotonic()
        return consumer

    def _made(self, options: dict[str, Any], session_ms: int) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **options,
            group_id=self._group,
            group_instance_id=self._instance_id,
            enable_auto_commit=False,
            # A new partition's records come before anyone is assigned to it: "latest" would skip them.
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            heartbeat_interval_ms=300,
            # Liveness is ours to judge (heartbeats, leases); full windows of long tasks may keep us from polling.
            max_poll_interval_ms=24 * 3600 * 1000,
            fetch_max_wait_ms=200,
            max_partition_fetch_bytes=1024 * 1024,
            partition_assignment_strategy=(_Assignor,),
        )
        consumer.subscribe(self._topics, listener=_Listener(self, consumer))
        return consumer

    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        """partitions: None means all. Errors of Kafka are handled inside and never raised. Must not be cancelled,
        except by the last call.
        """
        if max_records <= 0 or (partitions is not None and not partitions):
            await anyio.sleep(timeout_s)  # for aiokafka, no partitions are all of them
            return {}
        consumer = self._consumer
        if consumer is None or self._is_broken(consumer):
            consumer = await self._rebuild()
            if consumer is None:
                return {}
        if not await self._is_known(timeout_s):
            return {}
        try:
            records = await Reader(consumer, self._watch.known.is_set).poll(partitions, max_records, timeout_s)
        except Exception as error:
            # Any exception: a broken aiokafka also raises errors that are not Kafka's, and a new consumer fixes it.
            self._errors = self._errors + 1 if isinstance(error, KafkaError | OSError) else _ERRORS_BEFORE_REBUILD
            self._outages.failed(f"{type(error).__name__}: {error}")
            await anyio.sleep(0.1)  # an error that comes back at once must not become a busy loop
            return {}
        if not self._watch.known.is_set():
            return {}  # a rebalance came while a batch was rescued: what is still ours comes again
        self._errors = 0
        if self._outages.open:
            self._outages.answered()
        if records:
            self._rebuild_s = _REBUILD_S
            self._watch.handed_out(records)
        self._note_answers(consumer, got=bool(records), all_wanted=partitions is None)
        return records

    async def _is_known(self, timeout_s: float) -> bool:
        """Wait until the assignment is known and reported; False if it is not known in time."""
        known = self._watch.known
        if not known.is_set():
            with anyio.move_on_after(timeout_s):
                await known.wait()
        return known.is_set()

    def _note_answers(self, consumer: AIOKafkaConsumer, *, got: bool, all_wanted: bool) -> None:
        now = self._clock.monotonic()
        if got or not all_wanted or not consumer.assignment():
            self._last_answer = now  # with partitions left out, nothing has to be fetched
            return
        stamps = [consumer.last_poll_timestamp(partition) or 0 for partition in consumer.assignment()]
        age = self._clock.time() - max(stamps) / 1000
        if age < _STALL_S:
            self._last_answer = now

    def _is_broken(self, consumer: AIOKafkaConsumer) -> bool:
        if self._errors >= _ERRORS_BEFORE_REBUILD:
            return True
        if self._clock.monotonic() - self._last_answer > _STALL_S:
            log.warning("no fetch has been answered for %.0f s", _STALL_S)
            return True
        if (problem := health(consumer)) is not None:
            log.warning("the Kafka consumer is broken: %s", problem)
            return True
        return False

    async def _rebuild(self) -> AIOKafkaConsumer | None:
        old, self._consumer = self._consumer, None
        self.rebuilds += 1
        log.warning("rebuilding the Kafka consumer of group %s", self._group)
        if old is not None:
            await self._discard(old)
        self._errors = 0
        await anyio.sleep(self._rebuild_s)
        self._rebuild_s = min(2 * self._rebuild_s, _REBUILD_MOST_S)
        try:
            self._consumer = await self._joined()
        except (BrokerUnavailable, ConfigError) as error:
            log.warning("%s", error)
        return self._consumer

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        consumer = self._consumer
        if consumer is None or not self._watch.known.is_set():
            return False
        assigned = consumer.assignment() & self._watch.logs.keys()
        mine = {TopicPartition(*partition): offset for partition, offset in offsets.items() if partition in assigned}
        if not mine:
            return not offsets
        return await self._commit_within(_COMMIT_TIMEOUT_S, consumer, mine) and len(mine) == len(offsets)

    async def _commit_within(
        self, seconds: float, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]
    ) -> bool:
        """One commit at a time. A late one is not cancelled: a watermark is correct whenever it arrives.

        Cancelling it would not help: aiokafka shields the request, and then nobody would read its error.
        """
        earlier = self._commit_under_way
        if earlier is not None and not earlier.done():
            await asyncio.wait({earlier}, timeout=seconds)
            if not earlier.done():
                return False
        self._watch.committed(offsets)
        logs = self._watch.logs
        marked = {each: (offset, mark_of(logs.get(each, ""))) for each, offset in offsets.items()}
        commit = self._commit_under_way = asyncio.get_running_loop().create_task(consumer.commit(marked))
        commit.add_done_callback(_note_error)
        await asyncio.wait({commit}, timeout=seconds)
        if not commit.done():
            log.info("commit put off: no answer within %g s", seconds)
            return False
        # A rebalance is under way, or Kafka is away. The same watermark, or a higher one, goes with the next commit.
        return not commit.cancelled() and commit.exception() is None

    async def position(self, partition: Partition) -> int | None:
        if self._consumer is None:
            return None
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                position: int = await self._consumer.position(TopicPartition(*partition))
        except (KafkaError, IllegalStateError, TimeoutError):  # given up to another, or Kafka is away
            return None
        return position

    def lag(self, partition: Partition, offset: int) -> int:
        if self._consumer is None:
            return 0
        try:
            end = self._consumer.highwater(TopicPartition(*partition))
        except (IllegalStateError, KeyError, AssertionError):  # not assigned (any more)
            return 0
        return max(0, end - offset) if end is not None else 0

    async def stop(self) -> None:
        """A static member only stops sending: its place is kept for the successor until the session timeout."""
        consumer, self._consumer = self._consumer, None
        await self._watch.stop()
        self._watch.known.clear()
        if consumer is not None:
            await self._discard(consumer)

    async def _discard(self, consumer: AIOKafkaConsumer) -> None:
        await stopped(consumer, _STOP_TIMEOUT_S)
        if (commit := self._commit_under_way) is not None and not commit.done():
            # Its request has just failed with the connection; it would now repeat it endlessly.
            with anyio.CancelScope(shield=True):
                await asyncio.wait({commit}, timeout=0.05)
            commit.cancel()


def _note_error(commit: asyncio.Task[Any]) -> None:
    """Also of a commit that nobody waits for any more."""
    if not commit.cancelled() and (error := commit.exception()) is not None:
        level = logging.INFO if isinstance(error, KafkaError | IllegalStateError) else logging.ERROR
        log.log(level, "commit put off: %s: %s", type(error).__name__, error)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka swallows exceptions of a listener, and the whole group waits while one runs: so these are short and
    catch everything.
    """

    def __init__(self, owner: KafkaTaskConsumer, consumer: AIOKafkaConsumer) -> None:
        self._owner = owner
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:
        if not revoked:
            return
        log.info("giving up partitions %s", sorted(partition.partition for partition in revoked))
        offsets = {
            TopicPartition(*partition): offset
            for partition, offset in self._owner._watermarks().items()
            if partition in revoked and partition in self._owner._watch.logs
        }
        if offsets and self._owner._watch.known.is_set():
            # It only saves the next owner some repeated deliveries: worth one second at most, since the whole group
            # waits for us.
            await self._owner._commit_within(1, self._consumer, offsets)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        log.info("assigned partitions %s", sorted(tuple(partition) for partition in assigned))
        # No await before this line: aiokafka fetches records of the new assignment while this coroutine waits.
        self._owner._watch.assigned(self._consumer, assigned)
