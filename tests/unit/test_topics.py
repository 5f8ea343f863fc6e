"""Names of topics and groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.broker.connecting import connection_options
from yadtq.broker.wanted import Config, task_topic_problem, topics_of, unset
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


@pytest.mark.parametrize("app", ["shop.tasks", "shop.tasks.heartbeats", "a.b.tasks.c"])
def test_an_app_name_whose_topics_could_be_those_of_another(app: str) -> None:
    with pytest.raises(ConfigError, match="app name"):
        TopicNames(app)


@given(
    *[st.lists(st.sampled_from(["tasks", "dead", "heartbeats", "a"]), min_size=1, max_size=4).map(".".join)] * 4,
)
def test_no_two_apps_share_a_topic(app: str, queue: str, other: str, other_queue: str) -> None:
    try:
        one, two = TopicNames(app), TopicNames(other)
    except ConfigError:
        return
    if app != other:
        topics = {one.heartbeats, one.dead, one.tasks(queue)}
        assert topics.isdisjoint({two.heartbeats, two.dead, two.tasks(other_queue)})


def test_names_that_are_legal_and_too_long_together() -> None:
    with pytest.raises(ConfigError, match="too long"):
        TopicNames("a" * 150).tasks("b" * 150)


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
