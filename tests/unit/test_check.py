"""What `yadtq check` says of what it has seen, and with which exit status."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.support.ports import reserve_port
from yadtq.broker.topics import TopicsSeen
from yadtq.broker.wanted import Config, topics_of
from yadtq.cli import verdicts
from yadtq.cli.root import run
from yadtq.cli.verdicts import Line, status_of
from yadtq.errors import BrokerUnavailable, ConfigError, StoreUnavailable, TopicMismatch, YadtqError
from yadtq.settings import Settings
from yadtq.wire.heartbeat import Heartbeat
from yadtq.wire.names import TopicNames

NAMES = TopicNames("shop")
TASKS = NAMES.tasks("default")
GOOD = {
    "cleanup.policy": Config("delete", True),
    "retention.ms": Config("-1", True),
    "retention.bytes": Config("-1", True),
}


def topic_lines(partitions: dict[str, int], configs: dict[str, dict[str, Config]]) -> dict[str, Line]:
    wanted = topics_of(NAMES, ["default"], Settings.load())
    lines = verdicts.topics(wanted, [TASKS], TopicsSeen(3, partitions, configs))
    return {line.what: line for line in lines}


def test_a_topic_as_it_has_to_be() -> None:
    line = topic_lines({TASKS: 4}, {TASKS: GOOD})[f"topic {TASKS}"]
    assert (line.state, line.text) == ("ok", "4 partitions")


def test_a_topic_that_is_not_there_is_no_failure() -> None:
    lines = topic_lines({}, {})
    assert {line.state for line in lines.values()} == {"warning"}
    assert status_of(list(lines.values())) == 0


@pytest.mark.parametrize("name", GOOD)
def test_a_topic_that_would_lose_tasks_fails(name: str) -> None:
    configs = {TASKS: {**GOOD, name: Config("1000", True)}}
    line = topic_lines({TASKS: 4}, configs)[f"topic {TASKS}"]
    assert (line.state, line.status) == ("failed", 2)
    assert name in line.text


def test_too_few_partitions_and_a_configuration_that_may_not_be_read_are_warnings() -> None:
    assert topic_lines({TASKS: 1}, {TASKS: GOOD})[f"topic {TASKS}"].state == "warning"
    assert "DESCRIBE_CONFIGS" in topic_lines({TASKS: 4}, {})[f"topic {TASKS}"].text


@pytest.mark.parametrize(
    ("info", "state", "said"),
    [
        (None, "ok", "unknown"),
        ({"redis_version": "7.0.15"}, "ok", "7.0.15"),
        ({"redis_version": "6.0.1"}, "failed", "too old"),
        ({"redis_version": "junk\x1b[2J"}, "failed", "too old"),
        ({"redis_version": "7.2", "maxmemory": 1, "maxmemory_policy": "allkeys-lru"}, "warning", "noeviction"),
        ({"redis_version": "7.2", "maxmemory": 1, "maxmemory_policy": "noeviction"}, "ok", "7.2"),
        ({"redis_version": "7.2", "cluster_enabled": 1}, "failed", "cluster"),
    ],
)
def test_redis(info: dict[str, object] | None, state: str, said: str) -> None:
    line = verdicts.redis_server(info)
    assert line.state == state
    assert said in line.text
    assert line.text.isprintable()


@pytest.mark.parametrize(
    ("skew_s", "uncertain_s", "state"),
    [(None, 1, "ok"), (0.1, 0.1, "ok"), (1.9, 0, "ok"), (-3, 0.5, "warning"), (3, 0.5, "warning"), (3, 2, "ok")],
)
def test_clocks(skew_s: float | None, uncertain_s: float, state: str) -> None:
    assert verdicts.clock("redis", skew_s, uncertain_s).state == state


def beat(phase: str, *queues: str) -> Heartbeat:
    return Heartbeat.model_validate(
        {"worker": "w", "host": "h", "pid": 1, "phase": phase, "seq": 1, "at": 1.0, "queues": queues}
    )


def test_workers() -> None:
    assert verdicts.workers([], ["default"]).state == "warning"
    assert verdicts.workers([beat("draining", "default")], ["default"]).state == "warning"
    assert verdicts.workers([beat("running", "default")], ["default"]).state == "ok"
    line = verdicts.workers([beat("running", "default")], ["default", "mail"])
    assert line.state == "warning"
    assert "mail" in line.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x\ny"), 2),
        (TopicMismatch("x"), 2),
        (BrokerUnavailable("x"), 69),
        (StoreUnavailable("x"), 69),
        (TimeoutError(), 69),
        (YadtqError("x"), 1),
    ],
)
def test_an_error_has_the_exit_status_of_a_worker(error: Exception, status: int) -> None:
    line = verdicts.failed("kafka", error)
    assert (line.state, line.status) == ("failed", status)
    assert line.text
    assert "\n" not in line.text


def test_what_has_to_be_fixed_first_gives_the_exit_status() -> None:
    lines = [verdicts.failed("a", error) for error in (YadtqError("x"), BrokerUnavailable("x"), ConfigError("x"))]
    assert status_of(lines) == 2
    assert status_of(lines[:2]) == 69
    assert status_of(lines[:1]) == 1
    assert status_of([]) == 0


def test_servers_that_are_not_there_are_each_a_line_within_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"127.0.0.1:{reserve_port()}"
    begun = time.monotonic()
    status = run(["check", "--json", "--timeout", "1", "--kafka", nobody, "--redis", f"redis://{nobody}/0"])
    assert time.monotonic() - begun < 12
    assert status == 69
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert {line["what"]: line["state"] for line in said["checks"]} == {
        "settings": "ok",
        "kafka": "failed",
        "redis": "failed",
    }


def test_servers_that_take_connections_and_say_nothing_end_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        status = run(["check", "--timeout", "1", "--kafka", where, "--redis", f"redis://{where}/0"])
    assert time.monotonic() - begun < 15
    assert status == 69
    assert capsys.readouterr().out.count("FAILED ") == 2


def test_wrong_settings_are_a_line_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_KAFKA_SASL", "PLAIN")
    assert run(["check"]) == 2
    assert capsys.readouterr().out.startswith("FAILED   settings: kafka_sasl=PLAIN needs kafka_user")
