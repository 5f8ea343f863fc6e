"""What a process is given, on doubles: servers in memory, time that the test holds, and a seeded generator."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from yadtq.outside import Outside, Place
from yadtq.settings import Settings
from yadtq.testing import ManualClock, MemoryBroker, MemoryStore
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
    broker: Broker | MemoryBroker | None = None,
    store: Store | None = None,
    seed: int = 1,
    **settings: Any,
) -> Outside:
    """An `Outside` with whatever is not given made anew. settings: of the store in memory; ignored with `store`.

    clock: a `ManualClock` if left out, so no deadline of the clock passes by itself; the loop's own do.
    """
    clock = clock if clock is not None else ManualClock()
    chance = random.Random(seed)
    return Outside(
        broker=broker if broker is not None else MemoryBroker(clock),  # type: ignore[arg-type]
        store=store if store is not None else MemoryStore(clock, chance, Settings.load(**settings)),
        clock=clock,
        chance=chance,
        names=TopicNames(app),
        place=Place("host", 1),
    )
