"""Garbage in cycles: a worker's memory does not grow with the tasks that leave some."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from yadtq.worker.__main__ import calm_the_collector
from yadtq.worker.collector import Collector
from yadtq.worker.facts import rss_bytes

def task():
    cycle = []
    cycle.append((cycle, bytes(100_000)))

async def main():
    calm_the_collector()
    collector = Collector(rss_bytes)
    first = most = rss_bytes()
    for n in range(3_000):
        task()
        if n % 50 == 0:
            most = max(most, rss_bytes())
            if sys.argv[1] == "with":
                await collector.tick()
    print((most - first) // 2**20)

asyncio.run(main())
"""


def grown_mb(how: str) -> int:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60, check=True)
    return int(ended.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_three_thousand_tasks_with_a_tenth_of_a_megabyte_each() -> None:
    assert grown_mb("with") < 84
    assert grown_mb("without") > 150, "the test can fail"
