"""Names of one app on Kafka: its topics and its consumer group."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yadtq.errors import ConfigError

__all__ = ["TopicNames"]

#: What Kafka allows in a topic name.
_LEGAL = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Names of one app's topics and of its consumer group."""

    app: str

    def __post_init__(self) -> None:
        if not _LEGAL.fullmatch(self.app):
            raise ConfigError(f"app name {self.app!r}: use letters, digits, '.', '_' and '-' only, 200 at most")

    @property
    def group(self) -> str:
        return f"yadtq.{self.app}"

    @property
    def heartbeats(self) -> str:
        return f"yadtq.{self.app}.heartbeats"

    @property
    def dead(self) -> str:
        return f"yadtq.{self.app}.dead"

    def tasks(self, queue: str) -> str:
        if not _LEGAL.fullmatch(queue):
            raise ConfigError(f"queue name {queue!r}: use letters, digits, '.', '_' and '-' only, 200 at most")
        return f"yadtq.{self.app}.tasks.{queue}"
