"""The record of what was submitted in a world, by the test and by tasks, in the order in which Kafka took it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from yadtq.errors import EnvelopeError, YadtqError
from yadtq.wire.envelope import decode_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.registry import Registry
    from yadtq.runtime.seams import Broker, OutRecord, Producer
    from yadtq.wire.names import TopicNames

__all__ = ["Recording", "Submit", "Submits"]


@dataclass(frozen=True, slots=True)
class Submit:
    """One task that was submitted.

    task: its name. args, kwargs: as its function gets them; of a task that the app does not know, as they were sent.
    """

    id: str
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str


class Submits:
    """Of one world."""

    def __init__(self, registry: Registry, names: TopicNames) -> None:
        self.all: list[Submit] = []
        self._seen: set[str] = set()
        self._registry = registry
        self._prefix = names.tasks("-")[:-1]

    def note(self, record: OutRecord) -> None:
        if not record.topic.startswith(self._prefix):
            return
        try:
            envelope = decode_envelope(record.value)
        except EnvelopeError:
            return  # a test that writes no task
        if envelope.id in self._seen:  # a worker moves records, and a client repeats what is in doubt
            return
        self._seen.add(envelope.id)
        args: tuple[Any, ...] = tuple(envelope.args)
        kwargs = envelope.kwargs
        with suppress(YadtqError):  # as it was sent: a task of another app, or of other code
            args, kwargs = self._registry.get(envelope.task).signature.from_wire(envelope)
        queue = record.topic.removeprefix(self._prefix)
        self.all.append(Submit(envelope.id, envelope.task, args, dict(kwargs), queue))


class Recording:
    """A `Broker` that notes what its producers append."""

    def __init__(self, broker: Broker, submits: Submits) -> None:
        self._broker = broker
        self._submits = submits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def producer(self, *, timeout_s: float | None = None) -> Producer:
        return cast("Producer", _Producer(self._broker.producer(timeout_s=timeout_s), self._submits))


class _Producer:
    def __init__(self, producer: Producer, submits: Submits) -> None:
        self._producer = producer
        self._submits = submits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    async def append(self, records: Sequence[OutRecord]) -> None:
        await self._producer.append(records)
        for record in records:
            self._submits.note(record)
