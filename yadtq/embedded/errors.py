"""What can go wrong with the local stack."""

from __future__ import annotations

from yadtq.errors import ConfigError, YadtqError


class EmbeddedError(YadtqError):
    """Root of the local stack's errors."""


class MissingServer(EmbeddedError, ConfigError):
    """A server's program is not installed; the message says what to install."""


class DataDirInUse(EmbeddedError):
    """Another stack is using the data folder, or its servers are still ending."""

    def __init__(self, path: str, owner_pid: int | None) -> None:
        self.path, self.owner_pid = path, owner_pid
        by = f"process {owner_pid}" if owner_pid else "another stack"
        super().__init__(f"the data folder {path} is in use by {by}: stop that one, or name another folder")


class ServerStartFailed(EmbeddedError):
    """A server ended, or was not ready within the deadline. `log_tail` is what it logged since it was started."""

    def __init__(self, server: str, reason: str, log_tail: str) -> None:
        self.server, self.reason, self.log_tail = server, reason, log_tail
        super().__init__(f"{server} did not start: {reason}; its log ends with:\n{log_tail or '(nothing)'}")
