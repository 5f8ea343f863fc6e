"""Messages to all workers of an app: a word and its subject, `dead host.shop.slot-0:1f2e3d4c`.

A message is a hint: pub/sub may lose it, so every receiver also has another way to learn of the event (a lease that
ends, a re-check after a gap). Unknown words are ignored, because a newer release may send them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEAD", "Signals"]

log = logging.getLogger("yadtq.worker")

#: A death certificate was written for this worker process.
DEAD = "dead"


class Signals:
    """`on(word, hear)` before the first message; `hear` gets each message of the channel."""

    def __init__(self) -> None:
        self._ears: dict[str, Callable[[str], None]] = {}

    def on(self, word: str, hear: Callable[[str], None]) -> None:
        """hear: gets the subject. It must not wait."""
        self._ears[word] = hear

    def hear(self, message: bytes) -> None:
        """Never raises: every client of Redis can publish to the channel."""
        word, _, about = message.decode(errors="backslashreplace").partition(" ")
        if (hear := self._ears.get(word)) is None:
            log.debug("not understood on the control channel: %r", message[:200])
        else:
            hear(about)
