"""TLS, logins and least rights on real servers: everything works with them, and what does not says why, at once."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]

from tests.support import kafka_jars, redis_server, stacks
from tests.support.certificates import Certificates
from tests.support.poll import eventually, eventually_blocking
from tests.support.secured import PASSWORD, USER, SecuredKafka, SecuredRedis, documented_acl, environment, token
from yadtq.app import Yadtq
from yadtq.broker.kafka import KafkaBroker
from yadtq.errors import REDIS_RIGHTS, BrokerUnavailable, ConfigError, StoreRefused
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings
from yadtq.sync import YADTQClient
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

#: Far below `connect_timeout_s`: waiting can't help.
AT_ONCE_S = 6.0


class Secured:
    def __init__(self, directory: Path) -> None:
        self.certificates, self.others = Certificates(directory / "certs"), Certificates(directory / "others")
        self.kafka = SecuredKafka(directory / "kafka", self.certificates)
        self.redis = SecuredRedis(directory / "redis", self.certificates)
        self.expired = SecuredRedis(directory / "expired", self.certificates, expired=True)
        self.password_file = directory / "password"
        self.client = self.certificates.issue("client")

    def environment(self, app: str) -> dict[str, str]:
        """What is added to that of a process."""
        found = environment(self.kafka, self.redis, self.certificates, self.password_file)
        return {**found, "YADTQ_TEST_APP": app}

    def kafka_settings(self, **given: Any) -> dict[str, Any]:
        wanted = {"kafka": self.kafka.address, "kafka_tls": True, "kafka_ca_file": self.certificates.ca_file, **given}
        return {name: value for name, value in wanted.items() if value is not None}

    def redis_settings(self, **given: Any) -> dict[str, Any]:
        login = {"redis_user": USER, "redis_password": PASSWORD}
        wanted = {"redis": self.redis.tls_url, "redis_ca_file": self.certificates.ca_file, **login, **given}
        return {name: value for name, value in wanted.items() if value is not None}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    for found in (kafka_jars.available(), redis_server.available("redis")):
        if not found:
            stacks.missing(found.reason)
    made = Secured(tmp_path_factory.mktemp("secured"))
    try:
        made.kafka.start_blocking()
        made.kafka.allow()
        for redis in (made.redis, made.expired):
            redis.start_blocking()
            redis.allow()
        yield made
    finally:
        for server in (made.kafka, made.redis, made.expired):
            server.discard_blocking()


@pytest.fixture(autouse=True)
async def _no_connection_is_left(secured: Secured) -> AsyncIterator[None]:
    """A TLS connection takes a moment to close, in a loop that goes on."""
    yield
    ports = {secured.kafka.port, *secured.kafka.ports.values(), secured.redis.port, secured.redis.tls_port}

    def left() -> list[object]:
        return [each for each in psutil.Process().net_connections() if getattr(each.raddr, "port", None) in ports]

    await eventually(lambda: not left(), timeout=10, what="the end of all connections")


def login(sasl: str, password: str = PASSWORD) -> dict[str, Any]:
    return {"kafka_sasl": sasl, "kafka_user": USER, "kafka_password": password}


async def good_token() -> str:
    return token()


async def bad_token() -> str:
    return "garbage"


async def no_token() -> str:
    raise RuntimeError("the identity provider is away")


async def provision(app: str, **given: Any) -> None:
    settings = Settings.load(**given)
    await KafkaBroker(settings, TopicNames(app), SystemClock()).provision(["default"])


class TestEverythingWorks:
    def test_the_line_of_the_page_is_the_one_that_errors_advise(self) -> None:
        assert documented_acl() == f"ACL SETUSER yadtq on >password {REDIS_RIGHTS}"

    def test_a_supervised_worker_a_blocking_client_and_the_command_line(
        self, secured: Secured, app_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the environment alone, as in a container; with the documented rights on both servers."""
        for name, value in secured.environment(app_name).items():
            monkeypatch.setenv(name, value)
        (tmp_path / "shop.py").write_text(
            f"from yadtq import Yadtq\napp = Yadtq({app_name!r})\n\n"
            "@app.task\nasync def add(x: int, y: int) -> int:\n    return x + y\n"
        )
        log = tmp_path / "log"
        with log.open("w") as stderr:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "yadtq.supervisor", "shop:app", "--workers", "1"],
                cwd=tmp_path,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )
        try:
            eventually_blocking(lambda: " runs, " in log.read_text(), timeout=60, what=log.read_text())
            command_lines = "".join(
                subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
            )
            assert PASSWORD not in command_lines
            with YADTQClient(app=app_name) as client:
                task_id = client.submit_task("add", [1, 2])
                assert client.get_result(task_id, 30) == 3
                assert len(client.workers()) == 1
            told = subprocess.run(
                [sys.executable, "-m", "yadtq", "status", task_id, "--app", app_name],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert (told.stdout.strip(), told.stderr) == ("SUCCESS", "")
            checked = subprocess.run(
                [sys.executable, "-m", "yadtq", "check", "--app", app_name],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert checked.returncode == 0, checked.stdout
            assert "answered in" in checked.stdout
        finally:
            supervisor.terminate()
            assert supervisor.wait(60) == 0, log.read_text()
        assert PASSWORD not in log.read_text()
        assert " ERROR   yadtq" not in log.read_text()

    @pytest.mark.parametrize("sasl", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "certificate"])
    async def test_each_way_to_log_in(
        self, secured: Secured, app_name: str, sasl: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        given: dict[str, Any] = {**secured.kafka_settings(), **secured.redis_settings()}
        if sasl == "certificate":
            given |= {
                "kafka": secured.kafka.at("mtls"),
                "kafka_cert_file": secured.client.cert,
                "kafka_key_file": secured.client.key,
            }
            secured.kafka.allow("client")
        else:
            given |= {"kafka_sasl": sasl, "kafka_token": good_token} if sasl == "OAUTHBEARER" else login(sasl)
        app = Yadtq(app_name, **given)
        async with app.client(num_partitions=1) as client:
            assert (await client.submit("add", 1, 2)).id
            assert await client.workers() == []
        assert "aiokafka" in caplog.text
        assert PASSWORD not in caplog.text


#: The settings that are wrong, and what the message says.
KAFKA: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": ({**login("PLAIN", "wrong")}, "Invalid username or password; see kafka_user"),
    "wrong password by scram": ({**login("SCRAM-SHA-512", "wrong")}, "invalid credentials.*kafka_password"),
    "refused token": ({"kafka_sasl": "OAUTHBEARER", "kafka_token": bad_token}, "refused the token.*kafka_token"),
    "no login": ({}, r"wants a login on this port \(.*SCRAM-SHA-512.*kafka_sasl"),
    "wrong CA": ({**login("PLAIN"), "kafka_ca_file": "OTHER"}, "local issuer certificate; kafka_ca_file"),
    "not the system's CA": ({**login("PLAIN"), "kafka_ca_file": None}, "local issuer certificate; kafka_ca_file"),
    "wrong name": (
        {**login("PLAIN"), "kafka_server_name": "x.example"},
        "not valid for 'x.example'.*kafka_server_name",
    ),
    "expired": ({"kafka": "expired"}, "certificate has expired; renew it"),
    "no certificate": ({"kafka": "mtls"}, "refused our certificate.*kafka_cert_file"),
    "TLS to a plain port": ({"kafka": "admin"}, "does not speak TLS on this port: see kafka_tls"),
    "plain to TLS": (
        {"kafka": "mtls", "kafka_tls": None, "kafka_ca_file": None},
        "speaks TLS on this port: set kafka_tls",
    ),
    "plain to SASL_SSL": ({"kafka_tls": None, "kafka_ca_file": None}, "speaks TLS on this port"),
    "login to a port without": (
        {"kafka": "admin", "kafka_tls": None, "kafka_ca_file": None, **login("PLAIN")},
        "takes no login on this port: leave out kafka_sasl",
    ),
    "no rights": ({**login("PLAIN"), "kafka_user": "nobody"}, "may not use the topic .*grant it READ"),
}


@pytest.mark.parametrize("case", KAFKA)
async def test_kafka_says_what_is_wrong_at_once(secured: Secured, app_name: str, case: str) -> None:
    given, said = KAFKA[case]
    given = secured.kafka_settings(**given)
    if given.get("kafka_ca_file") == "OTHER":
        given["kafka_ca_file"] = secured.others.ca_file
    if given["kafka"] in secured.kafka.ports:
        given["kafka"] = secured.kafka.at(given["kafka"])
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=said) as caught:
        await provision(app_name, **given, connect_timeout_s=30.0)
    assert time.monotonic() - begun < AT_ONCE_S
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


async def test_who_issues_tokens_may_be_away_for_a_moment(secured: Secured, app_name: str) -> None:
    given = secured.kafka_settings(kafka_sasl="OAUTHBEARER", kafka_token=no_token, connect_timeout_s=2.0)
    with pytest.raises(BrokerUnavailable, match="kafka_token raised RuntimeError: the identity provider is away"):
        await provision(app_name, **given)


async def test_a_right_on_the_group_that_is_missing_is_named(secured: Secured, app_name: str) -> None:
    names = [(ResourceType.TOPIC, right) for right in ("DESCRIBE", "DESCRIBE_CONFIGS", "READ", "WRITE", "CREATE")]
    secured.kafka.allow("groupless", names)

    async def groupless() -> str:
        return token("groupless")

    given = secured.kafka_settings(kafka_sasl="OAUTHBEARER", kafka_token=groupless)
    await provision(app_name, **given)
    names_of = TopicNames(app_name)
    consumer = KafkaBroker(Settings.load(**given), names_of, SystemClock()).consumer([names_of.tasks("default")])
    with pytest.raises(ConfigError, match=r"may not use the consumer group .*grant it READ"):
        await consumer.start(lambda assignment: None, dict)


REDIS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": (
        {"redis_password": "wrong"},
        "refused the login: .*WRONGPASS.*redis_password|invalid username.*",
    ),
    "no login": ({"redis_user": None, "redis_password": None}, "refused the login: .*redis_user"),
    "wrong CA": ({"redis_ca_file": "OTHER"}, "(local issuer certificate|self-signed certificate in).*redis_ca_file"),
    "not the system's CA": (
        {"redis_ca_file": None},
        "(local issuer certificate|self-signed certificate in).*redis_ca_file",
    ),
    "wrong name": ({"redis_server_name": "x.example"}, "not valid for 'x.example'.*redis_server_name"),
    "expired": ({"redis": "EXPIRED"}, "certificate has expired; renew it"),
    "TLS to a plain port": ({"redis": "PLAIN"}, "does not speak TLS on this port: see redis"),
    "plain to TLS": ({"redis": "TLS", "redis_ca_file": None}, "speaks TLS on this port: use rediss://"),
}


@pytest.mark.parametrize("case", REDIS)
async def test_redis_says_what_is_wrong_at_once(secured: Secured, app_name: str, case: str) -> None:
    given, said = REDIS[case]
    given = secured.redis_settings(**given)
    if given.get("redis_ca_file") == "OTHER":
        given["redis_ca_file"] = secured.others.ca_file
    places = {
        "EXPIRED": secured.expired.tls_url,
        "PLAIN": f"rediss://{secured.redis.address}/0",
        "TLS": f"redis://127.0.0.1:{secured.redis.tls_port}/0",
    }
    given["redis"] = places.get(given["redis"], given["redis"])
    store = Yadtq(app_name, **given, connect_timeout_s=30.0).outside().store
    begun = time.monotonic()
    try:
        with pytest.raises(ConfigError, match=said) as caught:
            await store.start()
    finally:
        await store.aclose()
    assert time.monotonic() - begun < AT_ONCE_S
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


async def test_redis_that_wants_a_certificate(secured: Secured, app_name: str, tmp_path: Path) -> None:
    strict = SecuredRedis(tmp_path / "strict", secured.certificates, clients="yes")
    good, old = secured.client, secured.certificates.issue("old-client", expired=True)
    stranger = secured.others.issue("stranger")
    try:
        await strict.start()
        await asyncio.to_thread(strict.allow)
        for certificate in (None, stranger, old, good):
            files = {"redis_cert_file": certificate.both} if certificate else {}
            store = Yadtq(app_name, **secured.redis_settings(redis=strict.tls_url, **files)).outside().store
            try:
                if certificate is good:
                    await store.start()
                    continue
                with pytest.raises(ConfigError, match=r"refused our certificate.*redis_cert_file"):
                    await store.start()
            finally:
                await store.aclose()
    finally:
        await asyncio.to_thread(strict.discard_blocking)


async def test_a_right_to_make_topics_that_is_missing_is_named(secured: Secured, app_name: str) -> None:
    rights = [(ResourceType.TOPIC, right) for right in ("DESCRIBE", "DESCRIBE_CONFIGS", "READ", "WRITE")]
    secured.kafka.allow("maker", rights)

    async def maker() -> str:
        return token("maker")

    with pytest.raises(ConfigError, match=r"can't be created.*Grant this Kafka user \(kafka_user\) CREATE"):
        await provision(app_name, **secured.kafka_settings(kafka_sasl="OAUTHBEARER", kafka_token=maker))


async def test_a_right_that_is_missing_on_redis_is_named(secured: Secured, app_name: str) -> None:
    def make() -> None:
        with secured.redis.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "less", "on", ">p", *REDIS_RIGHTS.split(), "-publish")

    await asyncio.to_thread(make)
    store = Yadtq(app_name, **secured.redis_settings(redis_user="less", redis_password="p")).outside().store
    try:
        with pytest.raises(StoreRefused, match=r"PUBLISH: .*ACL SETUSER"):
            await store.start()
    finally:
        await store.aclose()


def test_a_worker_with_a_wrong_password_ends_with_status_2_and_one_line(secured: Secured, app_name: str) -> None:
    given = secured.environment(app_name)
    del given["YADTQ_KAFKA_PASSWORD_FILE"]
    ended = subprocess.run(
        [sys.executable, "-m", "yadtq.worker", "--log-level", "ERROR"],
        env={**os.environ, **given, "YADTQ_KAFKA_PASSWORD": "s3cret-and-wrong"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("yadtq: ")]
    assert len(lines) == 1
    assert "refused the login" in lines[0]
    assert "s3cret" not in ended.stderr
    assert json.dumps(lines[0])
