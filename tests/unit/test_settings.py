"""Keywords, then the environment, then defaults; whatever is wrong is one line that names the setting."""

from __future__ import annotations

import os
import re

import pytest
from pydantic import ValidationError

from yadtq.errors import ConfigError
from yadtq.settings import Settings, SettingsOptions, SupervisorSettings, WorkerSettings

ALL = (Settings, WorkerSettings, SupervisorSettings)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("YADTQ_")]:
        monkeypatch.delenv(name)


def problem(model: type[Settings] | type[WorkerSettings] | type[SupervisorSettings] = Settings, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        model.load(**given)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_valid_and_documented_addresses() -> None:
    assert (Settings.load().kafka, Settings.load().redis) == ("localhost:9092", "redis://localhost:6379/0")
    assert WorkerSettings.load().queues == ()
    assert SupervisorSettings.load().grace_s > WorkerSettings.load().grace_s


def test_a_keyword_beats_the_environment_and_that_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_KAFKA", "env:1")
    assert Settings.load().kafka == "env:1"
    assert Settings.load(kafka="given:2").kafka == "given:2"
    assert Settings.load(kafka=None).kafka == "env:1", "None means: not given"


def test_each_group_has_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_WORKER_GRACE_S", "1.5")
    monkeypatch.setenv("YADTQ_SUPERVISOR_GRACE_S", "2.5")
    assert (WorkerSettings.load().grace_s, SupervisorSettings.load().grace_s) == (1.5, 2.5)


@pytest.mark.parametrize("model", ALL)
def test_settings_are_frozen(model: type[Settings]) -> None:
    settings = model.load()
    for name in model.model_fields:
        with pytest.raises(ValidationError):
            setattr(settings, name, getattr(settings, name))


def test_an_unknown_keyword_is_refused() -> None:
    assert "kafak" in problem(kafak="localhost:9092")


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("YADTQ_KAFAK", "YADTQ_KAFKA"),
        ("YADTQ_WORKER_CONCURENCY", "YADTQ_WORKER_CONCURRENCY"),
        ("YADTQ_SUPERVISOR_WORKER", "YADTQ_SUPERVISOR_WORKERS"),
    ],
)
@pytest.mark.parametrize("model", ALL)
def test_an_unknown_variable_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, model: type[Settings], variable: str, suggestion: str
) -> None:
    monkeypatch.setenv(variable, "1")
    message = problem(model)
    assert variable in message
    assert f"did you mean {suggestion}?" in message


def test_a_variable_like_nothing_is_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_XYZZY_PLUGH_QQQQQQQQQ", "1")
    assert "did you mean" not in problem()


def test_variables_of_the_tests_and_of_the_supervisor_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("YADTQ_TEST_KAFKA", "YADTQ_TEST_REDIS", "YADTQ_SLOT", "YADTQ_PIPE_FD"):
        monkeypatch.setenv(name, "x")
    for model in ALL:
        model.load()


@pytest.mark.parametrize("kafka", ["a:1", "a:1,b:2", "a:1, b:65535", "[::1]:9092"])
def test_kafka_addresses(kafka: str) -> None:
    assert Settings.load(kafka=kafka).kafka == kafka


@pytest.mark.parametrize("kafka", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "a:1,", "a:1,b"])
def test_what_is_no_kafka_address(kafka: str) -> None:
    assert "kafka (YADTQ_KAFKA)" in problem(kafka=kafka)


@pytest.mark.parametrize("redis", ["redis://h", "rediss://u@h:1/2", "unix:///run/redis.sock"])
def test_redis_urls(redis: str) -> None:
    assert Settings.load(redis=redis).redis == redis


@pytest.mark.parametrize("redis", ["", "localhost:6379", "http://h"])
def test_what_is_no_redis_url(redis: str) -> None:
    assert "redis (YADTQ_REDIS)" in problem(redis=redis)


@pytest.mark.parametrize(("lease_s", "heartbeat_s", "valid"), [(3, 1, True), (1, 0.3, True), (2.9, 1, False)])
def test_a_lease_survives_two_lost_heartbeats(lease_s: float, heartbeat_s: float, valid: bool) -> None:
    if valid:
        Settings.load(lease_s=lease_s, heartbeat_s=heartbeat_s)
    else:
        message = problem(lease_s=lease_s, heartbeat_s=heartbeat_s)
        assert "lease_s (2.9)" in message
        assert "heartbeat_s (1)" in message


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_NUM_PARTITIONS", "many")
    message = problem(redis="x", result_ttl_s=1)
    for name in ("num_partitions (YADTQ_NUM_PARTITIONS)", "redis (YADTQ_REDIS)", "result_ttl_s (YADTQ_RESULT_TTL_S)"):
        assert name in message


def test_the_keywords_for_type_checkers_are_the_settings() -> None:
    assert SettingsOptions.__annotations__.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("model", ALL)
def test_numbers_are_bounded_below_and_say_their_unit(model: type[Settings]) -> None:
    for name, field in model.model_fields.items():
        if field.annotation in (int, float):
            assert problem(model, **{name: -1}).startswith(name)
        if field.annotation is float:
            assert name.endswith("_s"), name


@pytest.mark.parametrize(
    ("text", "queues"),
    [("default", ("default",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b"))],
)
def test_queues_from_text(text: str, queues: tuple[str, ...]) -> None:
    assert WorkerSettings.load(queues=text).queues == queues


def test_queues_from_the_environment_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_WORKER_QUEUES", "a,b")
    monkeypatch.setenv("YADTQ_WORKER_OTHER_GROUPS", "g1")
    assert WorkerSettings.load().queues == ("a", "b")
    assert WorkerSettings.load().other_groups == ("g1",)


@pytest.mark.parametrize("text", ["", " , "])
def test_a_worker_has_a_queue(text: str) -> None:
    assert "queues" in problem(WorkerSettings, queues=text)


def test_secrets_of_a_wrong_redis_url_are_not_shown() -> None:
    assert not re.search("hunter2", problem(redis="http://:hunter2@host/0"))
