"""Secrets come from keywords, variables and files, and are shown nowhere."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import SaslAuthenticateRequest
from pydantic import SecretStr

from yadtq.app import Yadtq
from yadtq.broker.connecting import connection_options
from yadtq.broker.quiet import quieten
from yadtq.errors import ConfigError
from yadtq.settings import Settings
from yadtq.store.connecting import connect

SECRETS = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
SASL: dict[str, Any] = {"kafka_sasl": "PLAIN", "kafka_user": "u", "kafka_password": "s3cret"}
#: What a secret needs beside it.
WITH: dict[str, dict[str, Any]] = {
    "kafka_password": {"kafka_sasl": "PLAIN", "kafka_user": "u"},
    "kafka_key_password": {"kafka_tls": True, "kafka_cert_file": "c"},
    "redis_password": {},
    "redis_key_password": {"redis": "rediss://h", "redis_cert_file": "c"},
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("YADTQ_")]:
        monkeypatch.delenv(name)


def secret(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    assert isinstance(value, SecretStr)
    return value.get_secret_value()


def problem(**given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.load(**given)
    said = str(caught.value)
    assert "\n" not in said
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    return said


def test_every_secret_is_tried_here() -> None:
    assert set(SECRETS) == set(WITH)
    hidden = {name for name in Settings.model_fields if name.endswith("password")}
    assert hidden <= set(SECRETS), "a password that is no SecretStr"


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("way", ["keyword", "variable", "file"])
def test_a_secret_comes_three_ways_and_is_not_shown(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dict(WITH[name])
    if way == "keyword":
        given[name] = "s3cret"
    elif way == "variable":
        monkeypatch.setenv(f"YADTQ_{name.upper()}", "s3cret")
    else:
        (tmp_path / "secret").write_text("s3cret\n")
        monkeypatch.setenv(f"YADTQ_{name.upper()}_FILE", str(tmp_path / "secret"))
    settings = Settings.load(**given)
    assert secret(settings, name) == "s3cret"
    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff", b"x" * 70_000])
def test_a_file_that_is_no_secret_is_refused(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(data)
    monkeypatch.setenv("YADTQ_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    assert "YADTQ_REDIS_PASSWORD_FILE" in problem()


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_KAFKA_PASSWORD_FILE", "/nowhere/at/all")
    assert problem() == "YADTQ_KAFKA_PASSWORD_FILE: /nowhere/at/all can't be read: No such file or directory"


def test_a_secret_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret")
    monkeypatch.setenv("YADTQ_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("YADTQ_REDIS_PASSWORD", "s3cret")
    assert "both set" in problem()


def test_only_secrets_have_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_LEASE_S_FILE", "/tmp/x")
    assert "unknown environment variable YADTQ_LEASE_S_FILE" in problem()


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("redis://:s3cret@h/0", "redis://h/0"),
        ("rediss://u:s3cret@h:1/15", "rediss://u@h:1/15"),
        ("redis://u:s3cret@[::1]:6379/0?db=3", "redis://u@[::1]:6379/0?db=3"),
        ("unix://:s3cret@/tmp/s?db=2", "unix:///tmp/s?db=2"),
        ("redis://h/0?password=s3cret&db=1", "redis://h/0?db=1"),
        ("redis://h/0?password=s3cret", "redis://h/0"),
    ],
)
def test_the_password_is_taken_out_of_the_url(
    url: str, bare: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text(url)
    monkeypatch.setenv("YADTQ_REDIS_FILE", str(tmp_path / "url"))
    for settings in (Settings.load(redis=url), Settings.load()):
        assert settings.redis == bare
        assert secret(settings, "redis_password") == "s3cret"


def test_a_password_is_decoded_as_in_any_url() -> None:
    settings = Settings.load(redis="redis://:a%40b%2Fc@h")
    assert secret(settings, "redis_password") == "a@b/c"
    assert connect(settings).connection_pool.connection_kwargs["password"] == "a@b/c"


def test_a_password_in_the_url_and_another_beside_it_is_refused() -> None:
    assert "give one" in problem(redis="redis://:s3cret@h", redis_password="s3cret2")
    assert Settings.load(redis="redis://:s3cret@h", redis_password="s3cret").redis == "redis://h"


def test_a_misspelt_secret_is_not_shown() -> None:
    said = problem(kafka_pasword="s3cret")
    assert "did you mean kafka_password?" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka_user": "u", "kafka_password": "s3cret"}, "kafka_sasl"),
        ({"kafka_sasl": "PLAIN", "kafka_user": "u"}, "YADTQ_KAFKA_PASSWORD_FILE"),
        ({"kafka_sasl": "PLAIN", "kafka_password": "s3cret"}, "kafka_user"),
        ({"kafka_sasl": "OAUTHBEARER"}, "kafka_token"),
        ({"kafka_sasl": "OAUTHBEARER", "kafka_token": "s3cret"}, "async function"),
        ({**SASL, "kafka_token": lambda: None}, "OAUTHBEARER"),
        ({"kafka_sasl": "GSSAPI"}, "SCRAM-SHA-512"),
        ({"kafka_ca_file": "x"}, "kafka_tls"),
        ({"kafka_check_hostname": False}, "kafka_tls"),
        ({"kafka_tls": True, "kafka_key_file": "x"}, "kafka_cert_file"),
        ({"redis_ca_file": "x"}, "rediss://"),
        ({"redis": "redis://u@h", "redis_user": "v"}, "give one"),
        ({"redis_credentials": "s3cret"}, "CredentialProvider"),
        ({"redis_password": ""}, "empty"),
        ({"redis_password": ["s3cret"]}, "redis_password"),
    ],
)
def test_what_is_unclear_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    assert said in problem(**given)


@pytest.mark.parametrize("variable", ["YADTQ_KAFKA_TOKEN", "YADTQ_REDIS_CREDENTIALS", "YADTQ_KAFKA_TOKEN_FILE"])
def test_objects_come_from_code_only(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "s3cret")
    assert variable in problem()


@pytest.mark.parametrize("name", ["kafka_ca_file", "kafka_cert_file"])
@pytest.mark.parametrize("content", [None, "", "junk"])
def test_a_file_that_is_no_certificate_is_named_with_its_setting(
    name: str, content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=name) as caught:
        connection_options(Settings.load(kafka_tls=True, **{name: str(path)}))
    assert f"YADTQ_{name.upper()}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_settings_of_an_app_are_replaced_without_losing_the_others() -> None:
    app = Yadtq("shop", redis="redis://:s3cret@h/0", **SASL)
    other = app.settings_with(redis="redis://other/0")
    assert (other.redis, other.redis_password) == ("redis://other/0", None), "a password stays with its own URL"
    assert other.kafka_user == "u"
    assert "s3cret" not in repr(app)


def test_settings_survive_pickling() -> None:
    settings = Settings.load(**SASL)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_no_login_is_logged_not_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    quieten()
    log = logging.getLogger("aiokafka.conn")
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        request = SaslAuthenticateRequest(b"\0user\0s3cret").prepare({36: (0, 1)})
        log.debug("Request to %s:%d %d: %s", "h", 9092, 1, request)
        log.debug("Request to %s:%d %d: %s", "h", 9092, 2, "another")
    assert "another" in caplog.text
    assert "s3cret" not in caplog.text
