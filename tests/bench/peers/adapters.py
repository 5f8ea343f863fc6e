"""The client side of each system behind one interface. Runs in the peers' environments.

Blocking clients are called directly: nothing else runs in the loop of a measured client.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from typing import Any


class Adapter:
    """kind: how the runner sees a result under `key`: "exists", "complete" (SAQ's job record), or "hash:NAME"."""

    kind = "exists"
    has_bulk = True
    takes_uvloop = False
    chunk = 40  # of a gather; larger ones break on the clients' connection pools
    module = ""

    def __init__(self) -> None:
        self.app: Any = importlib.import_module(self.module) if self.module else None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def submit(self, task: str, i: int) -> Any:
        """The id of the new task."""
        raise NotImplementedError

    async def bulk(self, task: str, n: int) -> list[Any]:
        ids: list[Any] = []
        for at in range(0, n, self.chunk):
            ids += await asyncio.gather(*(self.submit(task, i) for i in range(at, min(n, at + self.chunk))))
        return ids

    def key(self, task_id: Any) -> str:
        return str(task_id)

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        raise NotImplementedError


class Celery(Adapter):
    module = "celery_app"

    async def submit(self, task: str, i: int) -> Any:
        return getattr(self.app, task).delay(i).id

    async def bulk(self, task: str, n: int) -> list[Any]:
        # No bulk call over Redis: one producer is kept for all.
        with self.app.app.producer_or_acquire() as producer:
            return [getattr(self.app, task).apply_async((i,), producer=producer).id for i in range(n)]

    def key(self, task_id: Any) -> str:
        return f"celery-task-meta-{task_id}"

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        return self.app.noop.delay(i).get(timeout=30)


class Dramatiq(Adapter):
    module = "dramatiq_app"
    has_bulk = False

    async def submit(self, task: str, i: int) -> Any:
        return getattr(self.app, task).send(i)

    def key(self, task_id: Any) -> str:
        return str(self.app.backend.build_message_key(task_id))

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        return self.app.noop.send(i).get_result(block=True, timeout=30_000)


class Huey(Adapter):
    module = "huey_app"
    kind = "hash:huey.results.bench"
    has_bulk = False

    async def submit(self, task: str, i: int) -> Any:
        return getattr(self.app, task)(i).id

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        return self.app.noop(i).get(blocking=True, timeout=30)


class Rq(Adapter):
    async def open(self) -> None:
        import rq
        from redis import Redis

        self.rq = rq
        self.queue = rq.Queue("default", connection=Redis.from_url(os.environ["BENCH_REDIS"]), serializer="json")

    async def submit(self, task: str, i: int) -> Any:
        return self.queue.enqueue(f"rq_app.{task}", i, result_ttl=3600).id

    async def bulk(self, task: str, n: int) -> list[Any]:
        prepare = self.rq.Queue.prepare_data
        ids: list[Any] = []
        for at in range(0, n, 1000):
            part = [prepare(f"rq_app.{task}", (i,), result_ttl=3600) for i in range(at, min(n, at + 1000))]
            ids += [job.id for job in self.queue.enqueue_many(part)]
        return ids

    def key(self, task_id: Any) -> str:
        return f"rq:results:{task_id}"

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        return self.queue.enqueue("rq_app.noop", i).latest_result(timeout=30).return_value


class Taskiq(Adapter):
    module = "taskiq_app"
    takes_uvloop = True

    async def open(self) -> None:
        await self.app.broker.startup()

    async def close(self) -> None:
        await self.app.broker.shutdown()

    async def submit(self, task: str, i: int) -> Any:
        return (await getattr(self.app, task).kiq(i)).task_id

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        sent = await self.app.noop.kiq(i)
        return (await sent.wait_result(check_interval=options.get("poll", 0.2), timeout=30)).return_value


class Arq(Adapter):
    module = "arq_app"
    takes_uvloop = True

    async def open(self) -> None:
        from arq import create_pool

        self.pool = await create_pool(self.app.SETTINGS, job_serializer=self.app.dumps, job_deserializer=json.loads)

    async def close(self) -> None:
        await self.pool.aclose()

    async def submit(self, task: str, i: int) -> Any:
        job = await self.pool.enqueue_job(task, i)
        assert job is not None
        return job.job_id

    def key(self, task_id: Any) -> str:
        return f"arq:result:{task_id}"

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        job = await self.pool.enqueue_job("noop", i)
        assert job is not None
        return await job.result(timeout=30, poll_delay=options.get("poll", 0.5))


class Saq(Adapter):
    module = "saq_app"
    kind = "complete"
    takes_uvloop = True
    chunk = 1000

    async def open(self) -> None:
        await self.app.queue.connect()

    async def close(self) -> None:
        await self.app.queue.disconnect()

    async def submit(self, task: str, i: int) -> Any:
        return (await self.app.queue.enqueue(task, i=i, ttl=3600)).id

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        if not options.get("push"):
            return await self.app.queue.apply("noop", i=i, timeout=30)
        job = await self.app.queue.enqueue("noop", i=i)
        try:
            await job.refresh(2)
        except TimeoutError:  # a job that ends before the client listens is not heard of: the 2 s stand in the samples
            await job.refresh()
        return job.result


class Streaq(Adapter):
    module = "streaq_app"
    takes_uvloop = True

    async def open(self) -> None:
        await self.app.worker.__aenter__()

    async def close(self) -> None:
        await self.app.worker.__aexit__(None, None, None)

    async def submit(self, task: str, i: int) -> Any:
        return (await getattr(self.app, task).enqueue(i)).id

    async def bulk(self, task: str, n: int) -> list[Any]:
        ids: list[Any] = []
        for at in range(0, n, 1000):
            tasks = [getattr(self.app, task).enqueue(i) for i in range(at, min(n, at + 1000))]
            await self.app.worker.enqueue_many(tasks)
            ids += [queued.id for queued in tasks]
        return ids

    def key(self, task_id: Any) -> str:
        return f"{self.app.worker.results_key}{task_id}"

    async def round_trip(self, i: int, options: dict[str, float]) -> Any:
        task = await self.app.noop.enqueue(i)
        return (await task.result(30)).result


SYSTEMS: dict[str, type[Adapter]] = {
    "celery": Celery,
    "dramatiq": Dramatiq,
    "huey": Huey,
    "rq": Rq,
    "taskiq": Taskiq,
    "arq": Arq,
    "saq": Saq,
    "streaq": Streaq,
}
