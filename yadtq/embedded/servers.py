"""How the two servers of a stack are run: their command lines, and how it shows that they are ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from yadtq.embedded.binaries import broker_binary, store_binary
from yadtq.embedded.server import ServerSpec
from yadtq.runtime.folders import open_own_file, open_own_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yadtq.embedded.datadir import DataDir

HOST = "127.0.0.1"
_CONFIG = "password.conf"
#: Of the account that the devbroker knows when it is given a password.
KAFKA_USER = "yadtq"
#: What the devbroker reads the token of its control channel and its password from.
_TOKEN, _PASSWORD = "DEVBROKER_CONTROL_TOKEN", "DEVBROKER_PASSWORD"
_PROBE_S = 1.0  # a probe that takes longer is not an answer


def broker_spec(
    data: DataDir, *, port: int, brokers: int, token: str | None, password: str | None = None
) -> ServerSpec:
    """Kafka: ports of the brokers, then that of the control channel if there is one. token: opens that; None: without.

    password: None lets in every user of this machine.
    """
    control = token is not None

    def command(ports: Sequence[int]) -> list[str]:
        addrs = [f"{HOST}:{number}" for number in ports]
        options = ["--brokers", str(brokers), "--addr", ",".join(addrs[:brokers]), "--data", str(data.path / "kafka")]
        # A temporary folder is not worth a disk flush for each batch: it survives kill -9 of the server as it is.
        options.append(f"--sync={str(data.kept).lower()}")
        if control:
            options += ["--control", addrs[brokers]]
        return [str(broker_binary()), *options]

    wanted = (port, *[0] * (brokers - 1), *[0] * control)
    env = {name: value for name, value in ((_TOKEN, token), (_PASSWORD, password)) if value is not None}
    return ServerSpec("kafka", wanted, command, log=data.path / "logs" / "kafka.log", announces=True, env=env)


def store_spec(data: DataDir, *, port: int, password: str | None) -> ServerSpec:
    """Redis: a Valkey server with an append-only file, so that a kill -9 of it loses nothing that was answered.

    password: None lets in every user of this machine.
    """
    folder = data.path / "redis"
    settings = {
        "bind": HOST,
        "dir": str(folder),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec" if data.kept else "no",
        "maxmemory-policy": "noeviction",  # evicted task state would be lost task state
    }

    def command(ports: Sequence[int]) -> list[str]:
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        # The password in a file, as all users can read a command line.
        config = [] if password is None else [str(_write_config(folder, f"requirepass {password}\n"))]
        return [str(store_binary()), *config, "--port", str(ports[0]), *options]

    async def probe(number: int) -> bool:
        return await _answers(number, folder, password)

    return ServerSpec("redis", (port,), command, log=data.path / "logs" / "redis.log", probe=probe)


def _write_config(folder: Path, text: str) -> Path:
    directory = open_own_folder(folder)
    try:
        file = open_own_file(_CONFIG, directory, os.O_WRONLY)
    finally:
        os.close(directory)
    with os.fdopen(file, "w") as config:
        config.truncate()
        config.write(text)
    return folder / _CONFIG


async def _answers(port: int, folder: Path, password: str | None) -> bool:
    """Whether the server on this port has loaded its data and is ours: another server may have taken the port
    meanwhile.
    """
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                if password is not None:
                    writer.write(f"AUTH {password}\r\n".encode())
                    if await reader.readline() != b"+OK\r\n":
                        return False
                writer.write(b"CONFIG GET dir\r\n")
                # Two bulk strings; while its data are loading, one line: -LOADING.
                if await reader.readline() != b"*2\r\n":
                    return False
                value = [await _bulk(reader), await _bulk(reader)][1]
                return value == bytes(folder)
            finally:
                writer.close()
    return False


async def _bulk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline()).removeprefix(b"$"))
    return (await reader.readexactly(size + 2))[:-2]
