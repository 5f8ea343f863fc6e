"""Tests of your tasks: a real worker and a real client on servers in memory, in the test's own loop.

async with running(app) as world:
    handle = await addition.submit(1, 2)
    assert await handle.result() == 3
    await world.advance(3600)
"""

from yadtq.testing.kit.submits import Submit
from yadtq.testing.kit.world import World, running
from yadtq.wire.deadletter import DeadLetter

__all__ = ["DeadLetter", "Submit", "World", "running"]
