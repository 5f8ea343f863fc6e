"""EmbeddedStack: a Kafka broker and a Redis server for as long as a block of code runs."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Self

import anyio

from yadtq.embedded.datadir import DataDir, owner_lives
from yadtq.embedded.errors import DataDirInUse, EmbeddedError
from yadtq.embedded.server import ServerProcess
from yadtq.embedded.servers import HOST, KAFKA_USER, broker_spec, store_spec

if TYPE_CHECKING:
    import os
    from types import TracebackType

DEFAULT_KAFKA_PORT, DEFAULT_REDIS_PORT = 9092, 6379


class EmbeddedStack:
    """Starts both servers side by side, and ends them with the block, or with this process if that is killed.

    data_dir: None takes a temporary folder that is removed at the end; another is made if missing, kept, and holds the
    data for the next stack, whose ports may differ. kafka_port, redis_port: 0 for any (see `ports_free`).
    Both listen on the loopback address only, and take random passwords: give programs `settings` or `env`. A server on its
    default port (9092, 6379), where a program without settings shall find it, lets in every user of this machine.
    brokers: how many Kafka brokers. control: open the devbroker's fault injection channel (yadtq_devbroker.control).
    start_timeout: seconds for both to be ready.

    Raises DataDirInUse, MissingServer, or ServerStartFailed with the tail of the server's log. While the block runs,
    the servers are `broker` and `store`: stop, kill, freeze and restart them at will.
    """

    #: Set it to False before the block for clients that can't log in to Kafka.
    kafka_login = True

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        kafka_port: int = 0,
        redis_port: int = 0,
        brokers: int = 1,
        control: bool = False,
        start_timeout: float = 10.0,
    ) -> None:
        if brokers < 1:
            raise ValueError(f"brokers must be at least 1: {brokers}")
        self._data_dir = data_dir
        self._password = secrets.token_hex(16) if redis_port != DEFAULT_REDIS_PORT else None
        self._kafka_password: str | None = None
        self._token = secrets.token_hex(16) if control else None
        self._kafka_port, self._redis_port, self._brokers = kafka_port, redis_port, brokers
        self._start_timeout_s = start_timeout
        self._data: DataDir | None = None
        self._servers: tuple[ServerProcess, ServerProcess] | None = None

    async def __aenter__(self) -> Self:
        if self._data is not None:
            raise RuntimeError("this EmbeddedStack is open already")
        try:
            await self._open()
        except BaseException:  # cancelled half-way, too
            await self._close(kill=True)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def kafka(self) -> str:
        """Kafka's address, "127.0.0.1:port": the first broker's, which knows the others."""
        return f"{HOST}:{self.broker.port}"

    @property
    def redis(self) -> str:
        """Redis's URL, "redis://:password@127.0.0.1:port/0"."""
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}{HOST}:{self.store.port}/0"

    @property
    def open_servers(self) -> list[str]:
        """Those of "Kafka" and "Redis" that let in every user of this machine."""
        passwords = {"Kafka": self._kafka_password, "Redis": self._password}
        return [name for name, password in passwords.items() if password is None]

    @property
    def control(self) -> str | None:
        """Address of the broker's control channel, for `yadtq_devbroker.control.BrokerControl`; None without one."""
        return f"{HOST}:{self.broker.ports[-1]}" if self._token is not None else None

    @property
    def control_token(self) -> str:
        """What the control channel asks for; "" without one."""
        return self._token or ""

    @property
    def settings(self) -> dict[str, str]:
        """Keywords for `Yadtq`: the addresses, and how to log in."""
        found = {"kafka": self.kafka, "redis": self.redis}
        if self._kafka_password is not None:
            # Not PLAIN: aiokafka warns of that at each connection.
            found |= {"kafka_sasl": "SCRAM-SHA-256", "kafka_user": KAFKA_USER, "kafka_password": self._kafka_password}
        return found

    @property
    def env(self) -> dict[str, str]:
        """What to add to the environment of processes that shall use this stack."""
        return {f"YADTQ_{name.upper()}": value for name, value in self.settings.items()}

    @property
    def data_dir(self) -> str:
        """The folder with the servers' data, and their logs in `logs/`."""
        return str(self._opened().path)

    @property
    def broker(self) -> ServerProcess:
        """The Kafka server: all its brokers are one process."""
        self._opened()
        assert self._servers is not None
        return self._servers[0]

    @property
    def store(self) -> ServerProcess:
        """The Redis server."""
        self._opened()
        assert self._servers is not None
        return self._servers[1]

    async def restart_kafka(self) -> None:
        """Stop Kafka and start it again, with the same port and data; injected faults are gone."""
        await self.broker.restart()

    async def restart_redis(self) -> None:
        """Stop Redis and start it again, with the same port and data."""
        await self.store.restart()

    def _opened(self) -> DataDir:
        if self._data is None or self._servers is None:
            raise RuntimeError("the EmbeddedStack is not open: use it as `async with EmbeddedStack() as stack`")
        return self._data

    async def _open(self) -> None:
        self._data = DataDir(self._data_dir)
        await self._lock(self._data)
        locked = self.kafka_login and self._kafka_port != DEFAULT_KAFKA_PORT
        self._kafka_password = password = secrets.token_hex(16) if locked else None
        specs = (
            broker_spec(self._data, port=self._kafka_port, brokers=self._brokers, token=self._token, password=password),
            store_spec(self._data, port=self._redis_port, password=self._password),
        )
        fd, timeout = self._data.lock_fd, self._start_timeout_s
        broker, store = (ServerProcess(spec, lock_fd=fd, timeout=timeout) for spec in specs)
        self._servers = (broker, store)
        failed: list[EmbeddedError] = []

        async def start(server: ServerProcess) -> None:
            try:
                await server.start()
            except EmbeddedError as exc:
                failed.append(exc)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(start, broker)
            group.start_soon(start, store)
        if failed:
            raise failed[0]

    async def _lock(self, data: DataDir) -> None:
        """Take the folder. The servers of a stack that was killed hold it for the moment that they take to end."""
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            try:
                return await anyio.to_thread.run_sync(data.open)
            except DataDirInUse as exc:
                if owner_lives(exc.owner_pid) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)

    async def _close(self, *, kill: bool = False) -> None:
        data, servers = self._data, self._servers or ()
        self._data = self._servers = None
        with anyio.CancelScope(shield=True):
            try:
                async with anyio.create_task_group() as group:
                    for server in servers:
                        group.start_soon(server.kill if kill else server.stop)
            finally:
                if data is not None:
                    await anyio.to_thread.run_sync(data.close)
