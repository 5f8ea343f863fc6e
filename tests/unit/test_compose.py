"""compose.yaml and the Dockerfile, as far as they can be checked without Docker: that their parts fit each other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from yadtq.settings import Settings, SupervisorSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def seconds(text: str) -> float:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def listeners(value: str) -> dict[str, tuple[str, int]]:
    """Name to (host, port)."""
    found = {}
    for part in value.split(","):
        name, _, address = part.partition("://")
        host, _, port = address.rpartition(":")
        found[name] = (host, int(port))
    return found


def published_ports(service: dict[str, Any]) -> dict[int, tuple[str, int]]:
    """Port in the container to (address, port) on the host."""
    found = {}
    for mapping in service["ports"]:
        address, host_port, port = mapping.split(":")
        found[int(port)] = (address, int(host_port))
    return found


def test_both_servers_have_a_health_check_and_a_volume_of_their_own(services):
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text())["volumes"]
    for name, folder in (("kafka", "/var/lib/kafka/data"), ("redis", "/data")):
        assert services[name]["healthcheck"]["test"]
        (volume,) = services[name]["volumes"]
        source, target = volume.split(":")
        assert source in volumes
        assert target == folder
    assert services["kafka"]["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_the_supervisor_waits_for_healthy_servers(services):
    needs = services["supervisor"]["depends_on"]
    assert {name: need["condition"] for name, need in needs.items()} == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
    }


def test_kafka_advertises_what_it_listens_on(services):
    environment = services["kafka"]["environment"]
    listening = listeners(environment["KAFKA_LISTENERS"])
    advertised = listeners(environment["KAFKA_ADVERTISED_LISTENERS"])
    protocols = dict(part.split(":") for part in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert listening.keys() == protocols.keys()
    assert environment["KAFKA_CONTROLLER_LISTENER_NAMES"] in listening
    assert environment["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    for name, (_, port) in advertised.items():
        assert listening[name][1] == port
    quorum = environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].partition("@")[2]
    assert quorum == "{}:{}".format(*listening["CONTROLLER"])


def test_the_host_reaches_both_at_the_default_addresses(services):
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    advertised = listeners(services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
    assert defaults["kafka"] == "{}:{}".format(*advertised["HOST"])
    assert published_ports(services["kafka"])[advertised["HOST"][1]][1] == advertised["HOST"][1]
    assert f":{published_ports(services['redis'])[6379][1]}/" in defaults["redis"]


def test_ports_are_published_on_the_loopback_only(services):
    for name in ("kafka", "redis"):
        assert {address for address, _ in published_ports(services[name]).values()} == {"127.0.0.1"}


def test_the_supervisor_reaches_both_inside_the_network(services):
    environment = services["supervisor"]["environment"]
    advertised = listeners(services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
    assert environment["YADTQ_KAFKA"] == "{}:{}".format(*advertised["INTERNAL"])
    assert advertised["INTERNAL"][0] in services
    assert environment["YADTQ_REDIS"] == "redis://redis:6379/0"
    Settings.load(kafka=environment["YADTQ_KAFKA"], redis=environment["YADTQ_REDIS"])


def test_every_grace_outlasts_the_one_inside_it(services):
    inner = WorkerSettings.model_fields["grace_s"].default
    outer = SupervisorSettings.model_fields["grace_s"].default
    container = services["supervisor"]["stop_grace_period"]
    assert inner < outer
    # Killed workers are reaped for 5 s, and the group is left within another 5.
    assert outer + 10 < seconds(container)


def test_the_supervisor_is_not_process_one_and_has_no_fixed_name(services):
    supervisor = services["supervisor"]
    assert supervisor["init"] is True
    assert not {"hostname", "container_name"} & supervisor.keys()


def test_the_supervisors_command_is_one_that_it_takes(services):
    from yadtq.supervisor.__main__ import parse

    words = shlex.split(services["supervisor"]["command"])
    assert words[:3] == ["python", "-m", "yadtq.supervisor"]
    arguments = parse(words[3:])
    assert (arguments.app, arguments.workers) == ("yadtq.examples:app", 4)


def test_no_state_is_evicted_and_no_topic_made_by_chance(services):
    command = services["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_images_are_pinned_to_a_version(services):
    images = [service["image"] for service in services.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for image in images:
        assert re.search(r":\d+\.\d+", image), image


def test_the_image_runs_without_root_and_without_development_packages():
    text = (ROOT / "Dockerfile").read_text()
    *_, last_stage = re.split(r"^FROM ", text, flags=re.MULTILINE)
    user = re.search(r"^USER (\S+)", last_stage, re.MULTILINE)
    assert user
    assert user[1] != "root"
    assert "pip install" not in last_stage
    assert "requirements-dev" not in text


def test_what_the_dockerfile_copies_is_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for word in line.split()
    ]
    assert copied
    for name in copied:
        assert name.removeprefix("./") in allowed
        assert (ROOT / name).exists()
