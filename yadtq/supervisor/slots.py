"""Slots: numbered places for workers, each with a name that is a static member id of Kafka.

Two processes with one name would remove each other from the group endlessly, so a slot belongs to the process that
holds its lock file. Workers inherit the lock: when a supervisor is killed, its slots stay taken until its workers have
drained too, and the next supervisor takes other numbers meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from yadtq.errors import ConfigError
from yadtq.runtime.folders import FolderRefused, open_own_file, open_own_folder
from yadtq.supervisor.events import tell
from yadtq.supervisor.seams import Slot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["SlotLocks", "lock_directories"]

_MOST = 10_000


def lock_directories() -> list[Path]:
    """Folders for the locks, the best first: private to this user, on this machine, deleted at the next boot.

    Any user can create the name in /tmp first, so there is an alternative.
    """
    places = [Path(tempfile.gettempdir()) / f"yadtq-{os.geteuid()}"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        places.insert(0, Path(runtime) / "yadtq")
    with contextlib.suppress(RuntimeError):  # no home
        places.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yadtq-locks")
    return places


class SlotLocks:
    """Takes the lowest free numbers of one app on this host. A slot's `lock` is the descriptor whose flock owns it."""

    def __init__(self, app: str, *, directory: Path | None = None, host: str | None = None) -> None:
        self._app = app
        # Kafka allows no more than these characters in an instance id.
        self._host = re.sub(r"[^A-Za-z0-9._-]", "-", host or socket.gethostname())
        self._directories = [directory] if directory else lock_directories()
        self._held: dict[int, Slot] = {}

    @property
    def prefix(self) -> str:
        return f"{self._host}.{self._app}.slot-"

    def take(self, avoid: Collection[str] = ()) -> Slot:
        """Raises `ConfigError` if no directory can be used."""
        with self._opened() as folder:
            for number in range(_MOST):
                if number in self._held or f"{self.prefix}{number}" in avoid:
                    continue
                if (lock := self._lock(number, folder)) is not None:
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
        """Call now and then. Touches the files in use, because cleaning jobs delete old ones, and creates missing ones
        again.

        Returns slots that another supervisor has taken in between: they have a twin.
        """
        taken = []
        for slot in self._held.values():
            os.utime(slot.lock)
            if os.fstat(slot.lock).st_nlink:
                continue
            with self._opened() as folder:
                lock = self._lock(slot.number, folder)
            if lock is None:
                taken.append(slot)
            else:
                os.close(slot.lock)
                slot.lock = lock
        return taken

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the first directory that is ours. Once one is found it stays that one."""
        folder = self._open_first()
        try:
            yield folder
        finally:
            os.close(folder)

    def _open_first(self) -> int:
        refusals: list[str] = []
        for directory in self._directories:
            try:
                folder = open_own_folder(directory)
            except FolderRefused as refusal:
                refusals.append(str(refusal))
                continue
            if refusals:
                tell("locks-elsewhere", level=logging.WARNING, folder=directory, cause="; ".join(refusals))
            self._directories = [directory]
            return folder
        raise ConfigError(f"slot locks can't be kept: {'; '.join(refusals)}")

    def _lock(self, number: int, folder: int) -> int | None:
        descriptor = open_own_file(f"{self.prefix}{number}.lock", folder, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())  # for operators
        return descriptor
