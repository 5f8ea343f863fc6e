"""The folder that a stack's servers keep their data and logs in: temporary or kept, and used by one stack at a time.

The lock is on an open file that the servers inherit. It is held until the last of them has ended, so a stack that is
started right after another was killed can't open the files that the old servers are still writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from yadtq.embedded.errors import DataDirInUse
from yadtq.runtime.folders import FolderRefused, open_own_file, open_own_folder


class DataDir:
    """path: the folder, made where it is missing; None takes a temporary one, which `close` removes.

    `open` and `close` block, and are called in threads. After `close` a late `open` does nothing: the thread of a
    start that was cancelled may come to run only then.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.kept = path is not None
        self.path = Path(path or "")  # absolute once it is open
        self.lock_fd = -1
        self._closed = False
        self._mutex = threading.Lock()

    def open(self) -> None:
        """Make the folders and take the lock. Raises DataDirInUse, or FolderRefused if they are not ours alone."""
        with self._mutex:
            if not self._closed:
                self._open()

    def close(self) -> None:
        """Release the lock and remove a temporary folder. Only after the servers have ended."""
        with self._mutex:
            self._closed = True
            self._close()

    def _open(self) -> None:
        if self.kept:
            _refuse_foreign_link(self.path)
            self.path = self.path.resolve()
        elif self.path == Path():
            self.path = Path(tempfile.mkdtemp(prefix="yadtq-")).resolve()
        # The servers follow links, so no folder that they write to may be one, or have been filled by another user.
        folder = open_own_folder(self.path)
        try:
            for name in ("kafka", "redis", "logs"):
                os.close(open_own_folder(self.path / name))
            self._lock(open_own_file("lock", folder, os.O_RDWR))
        finally:
            os.close(folder)

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = _owner(fd)
            os.close(fd)
            raise DataDirInUse(str(self.path), owner) from exc
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self.lock_fd = fd

    def _close(self) -> None:
        if self.lock_fd >= 0:
            # Not only closed: a process that the user's code forked meanwhile has a copy of the descriptor.
            fcntl.flock(self.lock_fd, fcntl.LOCK_UN)
            os.close(self.lock_fd)
            self.lock_fd = -1
        if not self.kept and self.path != Path():
            shutil.rmtree(self.path, ignore_errors=True)


def _refuse_foreign_link(path: Path) -> None:
    """A link of our own to the folder is fine."""
    with contextlib.suppress(FileNotFoundError):
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode) and state.st_uid != os.geteuid():
            raise FolderRefused(f"folder {path}: it is a link of another user ({state.st_uid})")


def owner_lives(pid: int | None) -> bool:
    """Whether the process that took the lock still runs; if not, only its servers hold it, and they are ending."""
    if pid is None:
        return False
    with contextlib.suppress(PermissionError):  # it exists, and is another user's
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _owner(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else None
