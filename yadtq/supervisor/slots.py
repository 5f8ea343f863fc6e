"""Slots: numbered places for workers, each with a name that is a static member id of Kafka.

Two processes under one name would throw each other out of the group for ever, so a slot belongs to whoever holds its
lock file. Workers inherit the lock: when a supervisor is killed, its slots stay taken until its workers have drained
too, and the next supervisor takes other numbers meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from yadtq.errors import ConfigError
from yadtq.supervisor.seams import Slot

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["SlotLocks", "lock_directory"]

_MOST = 10_000


def lock_directory() -> Path:
    """Private to this user, on this machine, gone with the next boot."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "yadtq"
    return Path(tempfile.gettempdir()) / f"yadtq-{os.getuid()}"


class SlotLocks:
    """Takes the lowest free numbers of one app on this host. A slot's `lock` is the descriptor whose flock owns it."""

    def __init__(self, app: str, *, directory: Path | None = None, host: str | None = None) -> None:
        self._app = app
        # Kafka allows no more than these characters in an instance id.
        self._host = re.sub(r"[^A-Za-z0-9._-]", "-", host or socket.gethostname())
        self._directory = directory or lock_directory()
        self._held: dict[int, Slot] = {}

    @property
    def prefix(self) -> str:
        return f"{self._host}.{self._app}.slot-"

    def take(self, avoid: Collection[str] = ()) -> Slot:
        """Raises `ConfigError` if the directory can't be used."""
        self._prepare()
        for number in range(_MOST):
            if number in self._held or f"{self.prefix}{number}" in avoid:
                continue
            if (lock := self._lock(number)) is not None:
                slot = Slot(number, f"{self.prefix}{number}", lock)
                self._held[number] = slot
                return slot
        raise ConfigError(f"all {_MOST} slots of app {self._app!r} on this host are taken")

    def release(self, slot: Slot) -> None:
        """The file stays: removing it would let two processes lock two files of the same name."""
        if self._held.pop(slot.number, None) is not None:
            os.close(slot.lock)

    def release_all(self) -> None:
        for slot in list(self._held.values()):
            self.release(slot)

    def refresh(self) -> list[Slot]:
        """Call now and then. Keeps tidying jobs off the files in use (they go by age), makes those anew that are gone.

        Returns slots that somebody else has taken in between: they have a twin.
        """
        taken = []
        for slot in self._held.values():
            os.utime(slot.lock)
            if os.fstat(slot.lock).st_nlink:
                continue
            self._prepare()
            if (lock := self._lock(slot.number)) is None:
                taken.append(slot)
            else:
                os.close(slot.lock)
                slot.lock = lock
        return taken

    def _prepare(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self._directory.stat().st_uid
        except OSError as error:
            raise ConfigError(f"slot locks can't be kept in {self._directory}: {error.strerror}") from error
        if owner != os.getuid():
            raise ConfigError(f"slot locks can't be kept in {self._directory}: it belongs to another user ({owner})")

    def _lock(self, number: int) -> int | None:
        path = self._directory / f"{self.prefix}{number}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"slot lock {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())  # for people who look
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
