"""Records that can't be run, kept unchanged: same key, same bytes, with headers for their origin and the reason (G6)."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from yadtq.delivery.delivery import UNDECODABLE
from yadtq.runtime.seams import OutRecord
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.outbox import Outbox
    from yadtq.runtime.clock import Clock
    from yadtq.wire.deadletter import DeadReason

__all__ = ["DeadLetters"]

log = logging.getLogger("yadtq.worker")

#: Bytes that are kept of a value that is too large to be kept whole.
_CUT_BYTES = 100_000


class DeadLetters:
    """Puts dead letters into the outbox."""

    def __init__(self, *, topic: str, worker_id: str, outbox: Outbox, clock: Clock) -> None:
        self._topic = topic
        self._worker_id = worker_id
        self._outbox = outbox
        self._clock = clock

    def put(self, delivery: Delivery, reason: DeadReason, detail: str, then: Callable[[], None]) -> None:
        """then: called when Kafka has the dead letter; only then may the original be released."""
        record = delivery.record

        def written() -> None:
            log.error(
                "dead letter from %s/%d@%d: %s: %s",
                record.topic,
                record.partition,
                record.offset,
                reason,
                shown(detail),
            )
            then()

        letter = self._letter(delivery, reason, detail)
        self._outbox.put([letter], written, lambda _, too_large: [_cut(letter) if too_large else letter])

    def _letter(self, delivery: Delivery, reason: DeadReason, detail: str) -> OutRecord:
        record, envelope = delivery.record, delivery.envelope
        headers = {
            "yadtq-reason": reason.value,
            "yadtq-detail": detail,
            "yadtq-topic": record.topic,
            "yadtq-partition": str(record.partition),
            "yadtq-offset": str(record.offset),
            "yadtq-timestamp": str(record.timestamp),
            "yadtq-worker": self._worker_id,
            "yadtq-at": str(int(self._clock.time() * 1000)),
        }
        if envelope is not UNDECODABLE:
            headers |= {"yadtq-task-id": envelope.id, "yadtq-task": envelope.task}
        # Not every client can append a record without key and value; an empty value means the same.
        value = b"" if record.value is None and record.key is None else record.value
        return OutRecord(
            self._topic,
            value,
            record.key,
            headers=[*record.headers, *((name, text.encode()) for name, text in headers.items())],
        )


def _cut(letter: OutRecord) -> OutRecord:
    """With the headers of a dead letter the record may exceed a limit that it met before: then only its beginning is
    kept.
    """
    value = letter.value or b""
    size = [
        ("yadtq-size", str(len(value)).encode()),
        ("yadtq-sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
    key = letter.key[:_CUT_BYTES] if letter.key is not None else None
    return letter._replace(value=value[:_CUT_BYTES], key=key, headers=[*letter.headers, *size])
