"""Settings that are refused, variables that are none, and secrets and foreign text where people see them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from yadtq.cli.output import as_json
from yadtq.cli.root import run
from yadtq.cli.workers import table
from yadtq.errors import ConfigError
from yadtq.settings import Settings, SupervisorSettings, WorkerSettings
from yadtq.shown import shown_address
from yadtq.wire.heartbeat import Heartbeat

NUMBERS = [
    (model, name)
    for model in (Settings, WorkerSettings, SupervisorSettings)
    for name, field in model.model_fields.items()
    if field.annotation in (float, int)
]


@pytest.mark.parametrize(("model", "name"), NUMBERS, ids=[f"{model.__name__}.{name}" for model, name in NUMBERS])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "1" + "0" * 30])
def test_no_number_is_without_bounds(
    model: type[Settings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{model.model_config['env_prefix']}{name}".upper(), value)
    with pytest.raises(ConfigError, match=name):
        model.load()


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/xx",
        "redis://h/0/1",
        "redis://h/-1",
        "redis://h:x/0",
        "redis://h:99999/0",
        "redis://h:0/0",
        "redis:///0",
        "redis:/u:secret@h/0",
        "http://u:secret@h",
        "unix://",
        "redis://h?db=x",
        "redis://[h/0",
        "u:secret@h:6379",
    ],
)
def test_what_is_no_redis_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(redis=url)
    assert "secret" not in str(caught.value)
    assert "xx" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h/", "rediss://u@h:1/15", "unix:///tmp/s?db=2", "redis://[::1]:6379/0?db=3"]
)
def test_redis_urls(url: str) -> None:
    assert Settings.load(redis=url).redis == url


def test_a_password_is_in_no_message_and_no_repr() -> None:
    settings = Settings.load(redis="redis://user:secret@h:1/0?password=secret")
    assert "secret" not in f"{settings!r} {settings}"
    assert "h:1/0" in repr(settings)
    with pytest.raises(ConfigError) as caught:
        Settings.load(kafka="user:secret@h:9092:x")
    assert "secret" not in str(caught.value)
    assert shown_address("redis://:secret@h") == "redis://:***@h"


@pytest.mark.parametrize("service", ["YADTQ", "YADTQ_REDIS", "YADTQ_WORKER"])
def test_variables_of_kubernetes_are_no_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "6379",
        "SERVICE_PORT_REDIS": "6379",
        "PORT": "tcp://10.0.0.1:6379",
        "PORT_6379_TCP": "tcp://10.0.0.1:6379",
        "PORT_6379_TCP_PROTO": "tcp",
        "PORT_6379_TCP_PORT": "6379",
        "PORT_6379_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"{service}_{suffix}", value)
    assert Settings.load().redis == "redis://localhost:6379/0"


def test_a_port_that_somebody_set_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_REDIS_PORT", "6379")
    with pytest.raises(ConfigError, match="YADTQ_REDIS_PORT"):
        Settings.load()


NASTY = "[red]x[/blue] \x1b[2J\x9b31m\u202e\nforged line"


def test_a_forged_heartbeat_breaks_no_table() -> None:
    beat = Heartbeat(worker=NASTY[:100], host="h", pid=1, phase="running", seq=1, at=1.0)
    console = Console(width=200, record=True)
    with console.capture() as captured:
        console.print(table([beat]))
    said = captured.get()
    assert "\x1b[2J" not in said
    assert "\x9b" not in said
    assert "[red]x" in said, "no markup either"


def test_errors_of_the_command_line_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["submit", "a", "--queue", NASTY],
        ["submit", "a", "-k", NASTY],
        [NASTY],
        ["status", "--app", NASTY, "x"],
    ):
        assert run(words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.removesuffix("\n").isprintable(), words


@pytest.mark.parametrize("value", [NASTY, {"a": [NASTY]}, "\U000e0001", "Grüße, 世界", None])
def test_json_is_the_same_value_in_printable_characters(value: Any) -> None:
    said = as_json(value)
    assert said.isprintable()
    assert json.loads(said) == value
