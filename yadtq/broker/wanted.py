"""What the topics of an app have to be like: pure decisions.

Apart from `broker/topics.py`, so that servers in memory need not import aiokafka, which takes a tenth of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yadtq.settings import Settings
    from yadtq.wire.names import TopicNames

__all__ = ["FOREVER", "OVERHEAD", "SIZE", "USUAL_SIZE", "Config", "task_topic_problem", "topics_of", "unset"]

FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_HEARTBEATS = {"cleanup.policy": "compact,delete", "retention.ms": "3600000", "segment.ms": "600000"}
SIZE = "max.message.bytes"
#: Kafka's own default of it.
USUAL_SIZE = 1_048_588
#: By how much a batch of one record is larger than its value.
OVERHEAD = 1_024


class Config(NamedTuple):
    """One value of a topic's configuration. is_set: on the topic itself, by somebody; else it is the broker's default."""

    value: str | None
    is_set: bool


def topics_of(
    names: TopicNames, queues: Iterable[str], settings: Settings, partitions: int | None = None
) -> dict[str, tuple[int, dict[str, str]]]:
    """Number of partitions and configuration of each topic of an app, as it is made."""
    size = {}
    if (least := settings.max_task_bytes + OVERHEAD) > USUAL_SIZE:
        size = {SIZE: str(least)}
    wanted = dict.fromkeys(map(names.tasks, queues), (partitions or settings.num_partitions, {**FOREVER, **size}))
    wanted[names.heartbeats] = (1, _HEARTBEATS)
    wanted[names.dead] = (1, {**FOREVER, **size})
    return wanted


def task_topic_problem(topic: str, values: Mapping[str, str | None]) -> str | None:
    """The values of a task topic's configuration that would lose tasks."""
    wrong = [
        f"{key}={values[key]} (must be {value})" for key, value in FOREVER.items() if values.get(key, value) != value
    ]
    if not wrong:
        return None
    return (
        f"topic {topic} would lose tasks: {', '.join(wrong)}; change it with kafka-configs.sh --alter, "
        "or use another app or queue name"
    )


def unset(configs: Mapping[str, Config], wanted: Mapping[str, str]) -> dict[str, str]:
    """The wanted values that nobody has set, and that the defaults do not already give."""
    return {
        key: value
        for key, value in wanted.items()
        if key in configs and not configs[key].is_set and not _is_enough(key, configs[key].value, value)
    }


def _is_enough(key: str, value: str | None, wanted: str) -> bool:
    if key == SIZE and value is not None:
        return int(value) >= int(wanted)
    return value == wanted
