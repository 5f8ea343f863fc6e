"""Names of topics and groups."""

from __future__ import annotations

import pytest

from yadtq.broker.connecting import connection_options
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
