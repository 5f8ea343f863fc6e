"""`yadtq queues`: how much there is to do, and since when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from yadtq.cli.options import AppOption, JsonOption, KafkaOption, RedisOption, find_app
from yadtq.cli.output import age, cell, console, print_json, table_of

if TYPE_CHECKING:
    from yadtq.client.inspection import Queue

__all__ = ["queues"]

_TITLES = ("queue", "partitions", "backlog", "oldest")


def queues(
    *, json: JsonOption = False, app: AppOption = "default", kafka: KafkaOption = None, redis: RedisOption = None
) -> None:
    """List the queues of an app: their backlog, and the age of the oldest unfinished task.

    The backlog counts finished tasks behind an unfinished one of the same partition, too.
    """

    async def work() -> list[Queue]:
        async with find_app(app, kafka, redis).client() as client:
            return await client.queues()

    found = asyncio.run(work())
    if json:
        print_json(found)
        return
    rows = [
        (cell(each.name), cell(str(each.partitions)), cell(str(each.backlog)), cell(age(each.oldest_age_s)))
        for each in found
    ]
    console().print(table_of(_TITLES, rows, numbers=_TITLES[1:]))
