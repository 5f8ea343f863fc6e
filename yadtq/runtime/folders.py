"""Opens folders and files only if they are ours: in a shared place such as /tmp another user may have made them first.

Through a link that another user created under the name of our file, we would truncate or append to any other file of
ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from yadtq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FolderRefused", "open_own_file", "open_own_folder"]

_LINK = "it is a link, and somebody else may have made it"


class FolderRefused(ConfigError):
    """A folder or file can't be used, or is not ours. The message says which and why, in one line."""


def open_own_folder(path: Path) -> int:
    """A descriptor of this folder, which is made (mode 0700) if it is missing, and its parents with it.

    Raises `FolderRefused` if it is a link, belongs to another user, or can be written by others.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # looked at below
            path.mkdir(mode=0o700)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise FolderRefused(f"folder {path}: {_LINK if path.is_symlink() else _cause(error)}") from error
    try:
        _refuse_foreign(folder, f"folder {path}", of_the_group=_is_private_group)
    except BaseException:  # nothing else would close the descriptor
        os.close(folder)
        raise
    return folder


def open_own_file(name: str, folder: int, flags: int) -> int:
    """A descriptor of this file in a folder, made (mode 0600) if it is missing. flags: of `os.open`, as O_RDWR.

    Raises `FolderRefused` if it is a link, no regular file, has a second name, or belongs to another user.
    """
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in its place must not block us
    try:
        file = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise FolderRefused(f"file {name}: {_cause(error)}") from error
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            raise FolderRefused(f"file {name}: not a plain file with this name only")
        _refuse_foreign(file, f"file {name}", of_the_group=lambda _group: False)
    except BaseException:  # nothing else would close the descriptor
        os.close(file)
        raise
    return file


def _cause(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return _LINK
    return error.strerror or str(error)


def _refuse_foreign(descriptor: int, what: str, *, of_the_group: Callable[[int], bool]) -> None:
    state = os.fstat(descriptor)
    if state.st_uid != os.geteuid():
        raise FolderRefused(f"{what}: it belongs to another user ({state.st_uid})")
    group_writes = state.st_mode & stat.S_IWGRP and not of_the_group(state.st_gid)
    if state.st_mode & stat.S_IWOTH or group_writes:
        raise FolderRefused(f"{what}: other users may write to it (mode {stat.S_IMODE(state.st_mode):o})")


def _is_private_group(group: int) -> bool:
    """Many systems give each user a group of the same id, and let it write by default."""
    return group == os.getegid()
