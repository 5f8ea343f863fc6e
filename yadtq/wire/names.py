"""Names of one app on Kafka: its topics and its consumer group."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yadtq.errors import ConfigError
from yadtq.shown import shown_value

__all__ = ["TopicNames", "checked_queue"]

#: What Kafka allows in a topic name.
_LEGAL = re.compile(r"[A-Za-z0-9._-]{1,200}")
_LONGEST = 249
#: A part of an app's name, behind a dot, that would make a topic of it one of another app: the heartbeats of an app
#: "shop.tasks" and the tasks of the queue "heartbeats" of "shop" are the same topic.
_RESERVED = "tasks"


def _is_legal(name: object) -> bool:
    return isinstance(name, str) and _LEGAL.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Names of one app's topics and of its consumer group."""

    app: str

    def __post_init__(self) -> None:
        if not _is_legal(self.app):
            raise ConfigError(
                f"app name {shown_value(self.app)}: use letters, digits, '.', '_' and '-' only, 200 at most"
            )

        if _RESERVED in self.app.split(".")[1:]:
            raise ConfigError(
                f"app name {shown_value(self.app)}: no part of it behind a dot may be {_RESERVED!r}, or its topics could be "
                f"those of the app {shown_value(self.app.partition(f'.{_RESERVED}')[0])}"
            )

    @property
    def group(self) -> str:
        return f"yadtq.{self.app}"

    @property
    def heartbeats(self) -> str:
        return f"yadtq.{self.app}.heartbeats"

    @property
    def dead(self) -> str:
        return f"yadtq.{self.app}.dead"

    def queue_of(self, topic: str) -> str | None:
        """The queue whose tasks are in this topic; None: it is none of this app's task topics."""
        prefix = f"yadtq.{self.app}.tasks."
        return topic.removeprefix(prefix) if topic.startswith(prefix) else None

    def tasks(self, queue: str) -> str:
        topic = f"yadtq.{self.app}.tasks.{checked_queue(queue)}"
        if len(topic) > _LONGEST:
            raise ConfigError(
                f"topic name {shown_value(topic)} is too long: it has {len(topic)} characters, Kafka takes {_LONGEST}"
            )
        return topic


def checked_queue(queue: str) -> str:
    """Raises `ConfigError`."""
    if not _is_legal(queue):
        raise ConfigError(f"queue name {shown_value(queue)}: use letters, digits, '.', '_' and '-' only, 200 at most")
    return queue
