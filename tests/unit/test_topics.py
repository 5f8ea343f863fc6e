"""Names of topics and groups."""

from __future__ import annotations

import pytest

from yadtq.broker.connecting import connection_options
from yadtq.broker.topics import Config, task_topic_problem, topics_of, unset
from yadtq.errors import ConfigError
from yadtq.settings import Settings
from yadtq.wire.names import TopicNames


def test_the_names_that_are_promised() -> None:
    names = TopicNames("shop")
    assert names.tasks("mail") == "yadtq.shop.tasks.mail"
    assert (names.heartbeats, names.dead, names.group) == ("yadtq.shop.heartbeats", "yadtq.shop.dead", "yadtq.shop")


@pytest.mark.parametrize("queue", ["", "a b", "a:b", "x" * 201])
def test_a_queue_name_that_no_topic_may_have(queue: str) -> None:
    with pytest.raises(ConfigError, match="queue name"):
        TopicNames("shop").tasks(queue)


def test_every_request_has_a_deadline() -> None:
    assert connection_options(Settings.load(kafka_request_timeout_s=3))["request_timeout_ms"] == 3_000


def test_topics_are_made_as_large_as_tasks_may_be() -> None:
    names = TopicNames("shop")
    usual = topics_of(names, ["mail"], Settings.load(num_partitions=7))
    assert usual[names.tasks("mail")][0] == 7
    assert "max.message.bytes" not in usual[names.tasks("mail")][1]
    large = topics_of(names, ["mail"], Settings.load(max_task_bytes=5_000_000), 3)
    assert large[names.tasks("mail")][0] == 3
    for topic in (names.tasks("mail"), names.dead):
        assert int(large[topic][1]["max.message.bytes"]) > 5_000_000


def test_what_nobody_has_set_is_set_and_what_somebody_has_set_is_left() -> None:
    wanted = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "2000000"}
    configs = {
        "retention.ms": Config("604800000", False),
        "retention.bytes": Config("-1", False),
        "max.message.bytes": Config("1048588", False),
        "cleanup.policy": Config("delete", False),
    }
    assert unset(configs, wanted) == {"retention.ms": "-1", "max.message.bytes": "2000000"}
    configs["retention.ms"] = Config("604800000", True)
    configs["max.message.bytes"] = Config("3000000", False)
    assert unset(configs, wanted) == {}
    problem = task_topic_problem("t", {key: config.value for key, config in configs.items()})
    assert problem is not None
    assert "retention.ms=604800000 (must be -1)" in problem
