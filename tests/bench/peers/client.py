"""Runs in a peer's own environment: `python client.py SYSTEM WHAT '{"n": 100, ...}'`; prints its result as JSON.

fill: queue tasks, and say in which Redis keys their results will be ("kind" says how to look). each, bulk: the same,
timed. round_trips: submit and wait for the result, one at a time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from adapters import SYSTEMS

if TYPE_CHECKING:
    from adapters import Adapter

_WARM_UP = 20


async def submit(adapter: Adapter, words: dict[str, Any], *, bulk: bool) -> dict[str, Any]:
    n, task = words["n"], words.get("task", "noop")
    await adapter.open()
    try:
        if words.get("warm"):
            await adapter.submit(task, 0)
        wall, cpu = time.perf_counter(), time.process_time()
        ids = await adapter.bulk(task, n) if bulk else [await adapter.submit(task, i) for i in range(n)]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        await adapter.close()
    keys = [adapter.key(i) for i in ids]
    return {"rate": n / wall, "cpu_us": cpu / n * 1e6, "bulk": bulk, "keys": keys, "kind": adapter.kind}


async def round_trips(adapter: Adapter, words: dict[str, Any]) -> dict[str, Any]:
    times = []
    warm_up = min(_WARM_UP, max(2, words["n"] // 10))
    await adapter.open()
    try:
        for i in range(warm_up + words["n"]):
            start = time.perf_counter()
            assert await adapter.round_trip(i, words["options"]) == i
            times.append(time.perf_counter() - start)
    finally:
        await adapter.close()
    return {"times": times[warm_up:]}


def main() -> None:
    system, what, words = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    adapter = SYSTEMS[system]()
    if what == "round_trips":
        work = round_trips(adapter, words)
    else:
        work = submit(adapter, words, bulk=what == "bulk" and adapter.has_bulk)
    if adapter.takes_uvloop:
        import uvloop

        result = uvloop.run(work)
    else:
        result = asyncio.run(work)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
