"""Everything a process is given: its servers, time, chance and name. Nothing else reaches outside.

A process built from an `Outside` runs on real servers and on doubles alike, and many of them run in one loop or one
thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import Broker
    from yadtq.store.verbs import Store
    from yadtq.wire.names import TopicNames

__all__ = ["Outside", "Place"]


class Place(NamedTuple):
    """Where a process runs. For reports only, never used for decisions."""

    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Outside:
    """names: of the app's topics. chance: the only source of random numbers, for jitter as well as for ids and tokens."""

    broker: Broker
    store: Store
    clock: Clock
    chance: random.Random
    names: TopicNames
    place: Place
