"""Which errors of Kafka mean that a record was refused permanently, and the message for each.

Decided by the error's class. Everything else is an outage: the record may be stored, and a repeat may help.
"""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import errors as kafka

__all__ = ["Refusal", "refusal"]


class Refusal(NamedTuple):
    """Nothing of the record is stored. alone: a batch with it fails as a whole, and without it may be accepted."""

    reason: str
    too_large: bool = False
    alone: bool = False


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]
    """A code that aiokafka doesn't know yet, and would call an unknown error."""

    errno = 87
    message = "INVALID_RECORD"
    description = "the broker's validation refused a record of the batch"


kafka.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)

_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError, kafka.RecordTooLargeError)
_ADVICE: dict[type[Exception], str] = {
    kafka.InvalidTimestampError: "its time stamp is too far from the broker's clock: set this machine's clock",
    kafka.InvalidTopicError: "Kafka allows no such topic name",
    kafka.TopicAuthorizationFailedError: "this Kafka user may not write to the topic: grant it WRITE",
    kafka.ClusterAuthorizationFailedError: "this Kafka user may not write to the cluster",
    kafka.PolicyViolationError: "a policy of the Kafka cluster forbids it",
    kafka.UnsupportedForMessageFormatError: "the topic's old message format can't hold it",
    kafka.InvalidRequiredAcksError: "Kafka does not take acks=all here",
    InvalidRecord: "the broker's validation refused it (a record without a key on a compacted topic, for one)",
}


def refusal(topic: str, error: BaseException | None) -> Refusal | None:
    """None: accepted, or not known."""
    if isinstance(error, _TOO_LARGE):
        return Refusal(f"too large for topic {topic}: raise max.message.bytes on it, or send less", True, True)
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            return Refusal(f"topic {topic}: {advice} ({kind.__name__})", alone=kind is InvalidRecord)
    return None
