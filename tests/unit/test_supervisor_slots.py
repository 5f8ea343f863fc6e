from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from yadtq.errors import ConfigError
from yadtq.supervisor.slots import SlotLocks, lock_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[Callable[..., SlotLocks]]:
    made: list[SlotLocks] = []

    def make(app: str = "shop", host: str = "host-1") -> SlotLocks:
        made.append(SlotLocks(app, directory=tmp_path / "locks", host=host))
        return made[-1]

    yield make
    for each in made:
        each.release_all()


def test_names_are_legal_for_kafka(locks: Callable[..., SlotLocks]) -> None:
    assert locks(host="Büro 7").take().id == "B-ro-7.shop.slot-0"


def test_two_supervisors_of_an_app_take_disjoint_numbers(locks: Callable[..., SlotLocks]) -> None:
    one, two = locks(), locks()
    numbers = [slots.take().number for slots in (one, two, one, two)]
    assert numbers == [0, 1, 2, 3]


def test_other_apps_have_numbers_of_their_own(locks: Callable[..., SlotLocks]) -> None:
    assert locks("shop").take().number == locks("bank").take().number == 0


def test_the_lowest_free_number_comes_next(locks: Callable[..., SlotLocks]) -> None:
    slots = locks()
    first = slots.take()
    slots.take()
    slots.release(first)
    slots.release(first)
    assert locks().take().number == 0


def test_a_worker_keeps_its_slot_when_the_supervisor_is_gone(locks: Callable[..., SlotLocks]) -> None:
    slots = locks()
    slot = slots.take()
    worker = subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[slot.lock], start_new_session=True
    )
    slots.release(slot)
    assert locks().take().number == 1
    worker.communicate(b"\n", timeout=10)
    assert locks().take().number == 0


def test_refresh_keeps_the_file_young(locks: Callable[..., SlotLocks], tmp_path: Path) -> None:
    slots = locks()
    slots.take()
    file = next((tmp_path / "locks").iterdir())
    os.utime(file, (0, 0))
    assert slots.refresh() == []
    assert file.stat().st_mtime > 0


def test_a_removed_file_is_made_again(locks: Callable[..., SlotLocks], tmp_path: Path) -> None:
    slots = locks()
    slots.take()
    shutil.rmtree(tmp_path / "locks")
    assert slots.refresh() == []
    assert locks().take().number == 1


def test_a_twin_that_came_while_the_file_was_gone_is_reported(locks: Callable[..., SlotLocks], tmp_path: Path) -> None:
    slots = locks()
    slot = slots.take()
    shutil.rmtree(tmp_path / "locks")
    assert locks().take().number == 0
    assert slots.refresh() == [slot]


def test_an_unusable_directory_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="slot locks can't be kept"):
        SlotLocks("shop", directory=tmp_path / "file").take()


def test_the_directory_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert lock_directories()[0] == tmp_path / "yadtq"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(os.geteuid()) in lock_directories()[0].name


def take_the_name(how: str, path: Path, tmp_path: Path) -> None:
    if how == "link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
        return
    path.mkdir()
    if how == "another user":
        if os.geteuid() != 0:
            pytest.skip("only root can make a folder of another user")
        os.chown(path, 12_345, 12_345)
    else:
        path.chmod(0o777)


@pytest.mark.parametrize("how", ["link", "another user", "open to all"])
def test_a_name_that_another_user_has_taken_blocks_nobody(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    take_the_name(how, lock_directories()[0], tmp_path)
    slots = SlotLocks("shop", host="host")
    slots.take()
    slots.take()
    assert [message.split(" cause=")[0] for message in caplog.messages] == [
        f"event=locks-elsewhere folder={tmp_path}/cache/yadtq-locks"
    ]
    assert len(list((tmp_path / "cache" / "yadtq-locks").iterdir())) == 2
    slots.release_all()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe"])
def test_a_lock_is_a_plain_file_of_ours_and_nothing_else(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o700)
    precious, lock = tmp_path / "precious", folder / "host.shop.slot-0.lock"
    precious.write_text("data")
    if kind == "symlink":
        lock.symlink_to(precious)
    elif kind == "hard link":
        lock.hardlink_to(precious)
    else:
        os.mkfifo(lock)
    with pytest.raises(ConfigError, match=r"slot-0\.lock"):
        SlotLocks("shop", directory=folder, host="host").take()
    assert precious.read_text() == "data"
