"""Submitting: from a call to a record that Kafka has acknowledged, and a QUEUED behind it.

A submit returns when Kafka has the task on all in-sync replicas: that alone decides whether it exists (D1). Its QUEUED
record in Redis follows within milliseconds. Concurrent submits share one produce request and one script call (D9).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from yadtq.client.calls import call_key
from yadtq.client.routes import Existing, routed, routed_each
from yadtq.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ConfigError,
    InvalidArguments,
    PayloadTooLarge,
    ServiceFailed,
    StoreUnavailable,
    SubmitOverloaded,
    SubmitRefused,
    SubmitUncertain,
    YadtqError,
)
from yadtq.execution.running import children
from yadtq.options import wire_fields
from yadtq.runtime.admission import Admission
from yadtq.runtime.microbatch import MicroBatch
from yadtq.runtime.seams import OutRecord
from yadtq.shown import shown_value
from yadtq.signature import untyped_arguments
from yadtq.task import Task
from yadtq.wire.codec import CodecError, refuse_unreadable
from yadtq.wire.envelope import encode_task
from yadtq.wire.ids import checked_name, home_of, new_task_id

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from yadtq.client.registrar import Registrar
    from yadtq.client.routes import Route, Submission, TaskOrName
    from yadtq.outside import Outside
    from yadtq.settings import Settings

__all__ = ["NOT_CONNECTED", "Submitter"]

log = logging.getLogger("yadtq.client")

NOT_CONNECTED = "the client is not connected: use it inside `async with app.client() as client`"


#: Task id, the fields of an `OutRecord`, and the home of the id (`wire.ids.home_of`; empty: the first claim decides).
#: A plain tuple of atoms, which the garbage collector does not track: record objects made `submit_many` a tenth slower.
_Entry: TypeAlias = "tuple[str, str, bytes | None, bytes | None, int | None, Sequence[tuple[str, bytes]], str]"


class _Doubt:
    """Ids that are not acknowledged, those that were refused, and the last reason of each kind."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.reason = ""
        self.refused: list[str] = []
        self.why_refused = ""

    def note(self, ids: Sequence[str], error: Exception) -> None:
        self.ids += ids
        self.reason = str(error)

    def check(self, deadline_s: float) -> None:
        """Raises `SubmitUncertain` or `SubmitRefused` if there are any. Tasks in doubt are reported first: they may be
        submitted again.
        """
        if self.ids:
            more = f"; {len(self.refused)} more were refused: {self.why_refused}" if self.refused else ""
            raise SubmitUncertain(self.ids, deadline_s, self.reason + more)
        if self.refused:
            raise SubmitRefused(self.refused, self.why_refused)


class Submitter:
    """One per client.

    registrar: a service that the client runs. num_partitions: least number of partitions of the task topics. routes:
    see `client/routes.py`.
    """

    def __init__(
        self,
        outside: Outside,
        settings: Settings,
        registrar: Registrar,
        *,
        num_partitions: int | None = None,
        routes: Sequence[Route] = (),
    ) -> None:
        self._outside = outside
        self._settings = settings
        self._registrar = registrar
        self._num_partitions = num_partitions
        self._routes = tuple(routes)
        self._producer = outside.broker.producer()
        self._batch = MicroBatch(self._send, limit=1000, at_once=4, timeout_s=settings.submit_timeout_s)
        #: By queue; only of those that are provisioned.
        self._topics: dict[str, str] = {}
        self._provisioning = asyncio.Lock()
        self._admission = Admission(settings.max_pending_submits)
        self._open = False

    async def start(self, queues: set[str]) -> None:
        """Raises `BrokerUnavailable` or `TopicMismatch`."""
        await self._provision(queues)
        await self._producer.start()
        self._open = True

    async def finish(self) -> None:
        """Refuse new submits, and wait for those in progress."""
        self._open = False
        self._admission.refuse(ConfigError(NOT_CONNECTED))
        await self._batch.aclose()

    async def disconnect(self) -> None:
        self._open = False
        await self._producer.stop()

    async def submit(
        self, task: TaskOrName, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> str:
        """The id of the task. See `Client.submit`."""
        queue = self._queue(task, options)
        task_id, value = self._encode(task, args, kwargs, options)
        try:
            topic = self._topics.get(queue) or await self._provisioned_topic(queue)
            home = home_of(topic, task.name if isinstance(task, Task) else task)
            entry: _Entry = task_id, topic, value, None, None, (), home
            if not self._admission.enter_now(1):
                await self._admit(1)
            try:
                if self._routes:
                    answer = await routed(self._routes, (task_id, OutRecord(topic, value)), task, options)
                    if isinstance(answer, Existing):
                        return answer.task_id
                    entry = _entry(answer, entry)
                # The future itself where there is one: a coroutine around it would cost one more object per submit.
                problem = await (self._batch.add if self._batch.busy else self._batch.run_now)(entry)
                if problem is not None:
                    raise problem
            except (BrokerUnavailable, TimeoutError) as error:
                raise SubmitUncertain([task_id], self._settings.submit_timeout_s, str(error)) from error
            finally:
                self._admission.leave(1)
        except BaseException:  # also a cancelled submit may be repeated
            _not_sent([task_id])
            raise
        return task_id

    async def submit_many(
        self, task: TaskOrName, calls: Iterable[Sequence[Any] | dict[str, Any]], options: Mapping[str, Any]
    ) -> list[str]:
        """The ids of the tasks, in order. See `Client.submit_many`."""
        queue = self._queue(task, options)
        topic = self._outside.names.tasks(queue)
        home = home_of(topic, task.name if isinstance(task, Task) else task)
        entries: list[_Entry] = []
        try:
            for call in calls:
                task_id, value = self._encode(task, *_arguments(task, call), options)
                entries.append((task_id, topic, value, None, None, (), home))
            await self._provisioned_topic(queue)
            ids = await self._send_all(entries, task, options)
        except BaseException:  # as a whole, because it is repeated as a whole: ids that Kafka has do no harm
            _not_sent([entry[0] for entry in entries])
            raise
        try:
            await self._registrar.flush()
        except (StoreUnavailable, ServiceFailed) as error:
            # Kafka has them all, so they will run; only their QUEUED is late.
            log.warning("%d tasks are queued, but not yet known to Redis: %s", len(entries), error)
        return ids

    async def _send_all(self, entries: list[_Entry], task: TaskOrName, options: Mapping[str, Any]) -> list[str]:
        """The ids that the callers get, in order."""
        ids: list[str] = []
        doubt = _Doubt()
        # In rounds, so that a million calls never become a million waiting submits.
        size = max(1, self._settings.max_pending_submits // 2)
        for at in range(0, len(entries), size):
            part = entries[at : at + size]
            try:
                await self._admit(len(part))
            except SubmitOverloaded as error:
                if not at:
                    raise
                # Earlier rounds are in Kafka, so "nothing was sent" is not true of the call as a whole.
                doubt.note([entry[0] for entry in entries[at:]], error)
                break
            try:
                ids += await self._send_round(part, task, options, doubt)
            finally:
                self._admission.leave(len(part))
        doubt.check(self._settings.submit_timeout_s)
        return ids

    async def _send_round(
        self, part: list[_Entry], task: TaskOrName, options: Mapping[str, Any], doubt: _Doubt
    ) -> list[str]:
        """The ids that the callers get, in order. doubt: gets those that are not acknowledged."""
        ids = [entry[0] for entry in part]
        if self._routes:
            submissions = [(entry[0], OutRecord(*entry[1:6])) for entry in part]
            answers = await routed_each(self._routes, submissions, task, options)
            ids = [answer.task_id if isinstance(answer, Existing) else answer[0] for answer in answers]
            part = [
                _entry(answer, entry)
                for answer, entry in zip(answers, part, strict=True)
                if not isinstance(answer, Existing)
            ]
        outcomes = await asyncio.gather(*map(self._batch.add, part), return_exceptions=True)
        for (task_id, *_), outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, BrokerUnavailable | TimeoutError):
                doubt.note([task_id], outcome)
            elif isinstance(outcome, SubmitRefused):
                doubt.refused.append(task_id)
                doubt.why_refused = outcome.reason
            elif isinstance(outcome, BaseException):
                raise outcome
        return ids

    def _encode(
        self, task: TaskOrName, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> tuple[str, bytes]:
        """Its id, and its record's value."""
        if not self._open:
            raise ConfigError(NOT_CONNECTED)
        self._registrar.check()
        if isinstance(task, Task):
            name = task.name
            wire_args, kwargs = task.to_wire(args, kwargs)
            fingerprint = task.signature.fingerprint
        else:
            name = checked_name(task)
            wire_args, kwargs = untyped_arguments(name, args, kwargs)
            fingerprint = None
        fields = wire_fields(options) if options else {}
        if fingerprint is not None:
            fields["fingerprint"] = fingerprint
        try:
            task_id = options.get("task_id") or self._new_id(task, wire_args, kwargs, options)
            value = encode_task(task_id, name, wire_args, kwargs, at=self._outside.clock.time(), **fields)
            refuse_unreadable(value)
        except CodecError as error:
            raise InvalidArguments(name, f"no JSON form: {error}") from None
        if len(value) > self._settings.max_task_bytes:
            raise PayloadTooLarge(name, len(value), self._settings.max_task_bytes)
        return task_id, value

    def _new_id(self, task: TaskOrName, args: list[Any], kwargs: dict[str, Any], options: Mapping[str, Any]) -> str:
        """Raises `CodecError` for arguments without a JSON form."""
        siblings = children()
        if siblings is None or options.get("fresh"):
            return new_task_id(self._outside.chance)
        return siblings.id_for(call_key(task, self._queue(task, options), args, kwargs))

    @staticmethod
    def _queue(task: TaskOrName, options: Mapping[str, Any]) -> str:
        queue: str | None = options.get("queue")
        return queue or (task.queue if isinstance(task, Task) else "default")

    async def _provisioned_topic(self, queue: str) -> str:
        if queue not in self._topics:
            await self._provision({queue})
        return self._topics[queue]

    async def _provision(self, queues: set[str]) -> None:
        async with self._provisioning:
            # If several first submits wait here, one of them has done it for all.
            if missing := queues - self._topics.keys():
                topics = {queue: self._outside.names.tasks(queue) for queue in missing}
                await self._outside.broker.provision(missing, self._num_partitions)
                self._topics |= topics

    async def _send(self, entries: Sequence[_Entry]) -> list[YadtqError | None]:
        """Each has its own answer: None where it is in Kafka."""
        sent_at = self._outside.clock.monotonic()
        try:
            await self._producer.append([OutRecord(*entry[1:6]) for entry in entries])
        except (BrokerRefused, BrokerUnavailable) as error:
            answers = _answers(entries, error)
            accepted = [entry for entry, answer in zip(entries, answers, strict=True) if answer is None]
            self._registrar.add([entry[0] for entry in accepted], sent_at, [entry[6] for entry in accepted])
            return answers
        self._registrar.add([entry[0] for entry in entries], sent_at, [entry[6] for entry in entries])
        return [None] * len(entries)

    async def _admit(self, count: int) -> None:
        """Under the deadline of a submit."""
        try:
            await self._admission.enter(count, self._settings.submit_timeout_s)
        except TimeoutError:
            raise SubmitOverloaded(
                f"{self._admission.pending} submits are waiting already (max_pending_submits is "
                f"{self._settings.max_pending_submits}): submit slower, or check whether Kafka keeps up"
            ) from None


def _arguments(task: TaskOrName, call: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One of the calls of `submit_many`. Raises `InvalidArguments`."""
    if isinstance(call, tuple | list):
        return tuple(call), {}
    if isinstance(call, dict):
        return (), call
    # A string is a sequence, too: its characters would be the arguments.
    if isinstance(call, Sequence) and not isinstance(call, str | bytes | bytearray | memoryview):
        return tuple(call), {}
    raise InvalidArguments(
        task if isinstance(task, str) else task.name,
        f"each of the calls is a list or tuple of arguments, or a dict of named ones, not {shown_value(call)}",
    )


def _not_sent(task_ids: Iterable[str]) -> None:
    """Inside a running task they are given again to the same calls."""
    if (siblings := children()) is not None:
        for task_id in task_ids:
            siblings.not_sent(task_id)


def _entry(submission: Submission, before: _Entry) -> _Entry:
    """What the routes have made of an entry. What a worker reads in another topic or value is not known."""
    task_id, record = submission
    return task_id, *record, before[6] if record[:2] == before[1:3] else ""


def _answers(entries: Sequence[_Entry], error: BrokerRefused | BrokerUnavailable) -> list[YadtqError | None]:
    """The outcome of a failed append for each record."""
    uncertain: Container[int] = ()
    if isinstance(error, BrokerUnavailable):
        uncertain = range(len(entries)) if error.uncertain is None else error.uncertain
    return [
        SubmitRefused([task_id], error.refused[index])
        if index in error.refused
        else error
        if index in uncertain
        else None
        for index, (task_id, *_) in enumerate(entries)
    ]
