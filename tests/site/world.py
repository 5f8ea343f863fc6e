"""Servers and workers for the pages: whatever app a page connects to has a worker, in a thread of this process."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from tests.support.apps import running
from yadtq import Yadtq
from yadtq.client.client import Client
from yadtq.embedded import EmbeddedStack

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["PageWorld", "Servers"]

_DEADLINE_S = 30


class Servers:
    """A thread with a loop of its own, for the servers and the workers: a page may block its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="servers-of-the-pages", daemon=True)
        self.stack = EmbeddedStack()
        self.stack.kafka_login = False  # pages show how to begin, with addresses alone

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_DEADLINE_S)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.stack.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.stack.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_DEADLINE_S)
        self.loop.close()

    async def empty(self) -> None:
        """Pages call their apps by the same names: nothing of one may be left for the next."""
        async with Redis.from_url(self.stack.redis) as redis:
            await redis.flushall()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.kafka)
        await admin.start()
        try:
            if topics := [topic for topic in await admin.list_topics() if topic.startswith("yadtq.")]:
                await admin.delete_topics(topics)
        finally:
            await admin.close()


class PageWorld:
    """What one page sees: the servers in its environment, and a worker for each app that it connects to.

    The worker is started by the first client, as by then the page has defined its tasks.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._apps: list[Yadtq] = []
        self._workers: dict[str, AsyncExitStack] = {}
        self._modules = set(sys.modules)
        self._patches = AsyncExitStack()

    def __enter__(self) -> Self:
        made, start, world = Yadtq.__init__, Client.start, self

        def init(app: Yadtq, *args: Any, **settings: Any) -> None:
            made(app, *args, **settings)
            world._apps.append(app)

        async def start_with_worker(client: Client) -> None:
            world.need_worker(client._outside.names.app)
            await start(client)

        for patch in (
            mock.patch.dict(os.environ, self._servers.stack.env),
            mock.patch.object(Yadtq, "__init__", init),
            mock.patch.object(Client, "start", start_with_worker),
        ):
            self._patches.enter_context(patch)
        return self

    def need_worker(self, name: str) -> None:
        if name in self._workers:
            return
        from yadtq import examples

        # The last one with tasks: a client makes an app of the same name to know its topics.
        named = [app for app in [examples.app, *self._apps] if app.name == name and list(app.registry)]
        if not named:
            return
        app = named[-1]
        app.configure(kafka=self._servers.stack.kafka, redis=self._servers.stack.redis)
        queues = {"default", *(task.queue for task in app.registry)}
        stack = self._workers[name] = AsyncExitStack()
        options = {"queues": ",".join(sorted(queues)), "commit_interval_s": 0.05}
        self._servers.run(stack.enter_async_context(running(app, **options)))

    def __exit__(self, *_: object) -> None:
        try:
            for stack in self._workers.values():
                self._servers.run(stack.aclose())
            self._servers.run(self._servers.empty())
        finally:
            self._servers.run(self._patches.aclose())
            for name in set(sys.modules) - self._modules:
                if getattr(sys.modules[name], "__page__", False):
                    del sys.modules[name]
