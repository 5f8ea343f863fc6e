from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import kafka_jars, redis_server, stacks
from tests.support.kafka_server import cluster_id
from tests.support.local_server import Availability
from tests.support.ports import HIGHEST, LOWEST, reserve_port


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The stacks that can be run, as the test would have it."""
    names: set[str] = {"kafka", "embedded"}
    monkeypatch.setattr(stacks, "available", lambda name: Availability(name in names, f"about {name}"))
    return names


@pytest.mark.parametrize(
    ("option", "here", "chosen"),
    [
        (None, {"kafka", "embedded"}, "kafka"),
        (None, {"embedded"}, "embedded"),
        (None, set(), "kafka"),  # named as missing then, the real thing being what is wanted
        ("embedded", {"kafka"}, "embedded"),
        ("kafka", {"embedded"}, "kafka"),
        ("both", {"kafka", "embedded"}, "kafka"),
    ],
)
def test_the_choice(present: set[str], option: str | None, here: set[str], chosen: str) -> None:
    present.intersection_update(here)
    assert stacks.choose(option) == chosen


def test_the_header_says_which_and_what_is_missing(present: set[str]) -> None:
    assert stacks.describe("kafka") == "kafka (about kafka)"
    present.clear()
    assert stacks.describe("kafka") == "kafka (missing: about kafka)"


def test_a_missing_server_skips_at_home_and_fails_in_ci(
    present: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present.clear()
    pool = stacks.StackPool(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="about kafka"):
        pool.get("kafka")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="missing in CI: about kafka"):
        pool.get("kafka")


def test_running_servers_are_used_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_TEST_KAFKA", "k:9092")
    monkeypatch.setenv("YADTQ_TEST_REDIS", "redis://r/0")
    assert stacks.StackPool(tmp_path).get("kafka") == stacks.Servers("k:9092", "redis://r/0", "external")


def test_kafka_needs_java_and_maven_or_a_filled_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YADTQ_TEST_CACHE", str(tmp_path))
    monkeypatch.setattr(kafka_jars, "_java_version", lambda: 17)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert kafka_jars.available() == Availability(False, "no mvn on the PATH to fetch Kafka with")
    home = tmp_path / kafka_jars._home().name
    home.mkdir()
    (home / "complete").touch()
    assert kafka_jars.available().ok
    assert kafka_jars.fetch() == home / "lib"
    monkeypatch.setattr(kafka_jars, "_java_version", lambda: 11)
    assert not kafka_jars.available()
    monkeypatch.setattr(kafka_jars, "_java_version", lambda: 0)
    assert kafka_jars.available().reason == "no java on the PATH"


def test_a_failed_download_leaves_no_complete_cache_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho no network; exit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("YADTQ_TEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kafka_jars, "_failures", [])
    monkeypatch.setattr(kafka_jars, "_java_version", lambda: 17)
    with pytest.raises(kafka_jars.FetchFailed, match="no network"):
        kafka_jars.fetch()
    assert "no network" in kafka_jars.available().reason


def test_no_cluster_id_looks_like_an_option() -> None:
    ids = {cluster_id() for _ in range(500)}
    assert {len(identifier) for identifier in ids} == {22}
    assert not [identifier for identifier in ids if identifier.startswith("-")]


def test_redis_is_told_from_valkey_also_behind_an_alias(tmp_path: Path) -> None:
    real = tmp_path / "valkey-server"
    real.touch()
    alias = tmp_path / "redis-server"
    alias.symlink_to(real)
    assert redis_server.kind_of(alias) == "valkey"


def test_ports_lie_below_the_range_of_outgoing_connections() -> None:
    first, second = reserve_port(), reserve_port()
    assert first != second
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert LOWEST <= first < HIGHEST
    if range_file.exists():
        assert int(range_file.read_text().split()[0]) > HIGHEST
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", first))
