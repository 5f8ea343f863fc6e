"""What a process is given, on doubles: servers in memory, time that the test holds, and a seeded generator."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from yadtq.outside import Outside, Place
from yadtq.settings import Settings
from yadtq.testing.doubles import ManualClock, MemoryBroker, MemoryStore
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import Broker
    from yadtq.store.verbs import Store

__all__ = ["memory_outside"]


def memory_outside(
    app: str = "t",
    *,
    clock: Clock | None = None,
    broker: Broker | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
    seed: int = 1,
) -> Outside:
    """An `Outside` of doubles; what is not given is made for it alone.

    clock: a `ManualClock` if left out, so that no deadline on it passes by itself; those of the loop do.
    """
    clock = clock if clock is not None else ManualClock()
    settings = settings if settings is not None else Settings.load()
    chance, names = random.Random(seed), TopicNames(app)
    return Outside(
        broker=broker if broker is not None else MemoryBroker(clock).for_app(names, settings),
        store=store if store is not None else MemoryStore(clock, chance, settings),
        clock=clock,
        chance=chance,
        names=names,
        place=Place("host", 1),
    )
