"""Doubles for YADTQ's own tests, with no server behind them: time that moves by hand, Redis and Kafka in memory.

The doubles keep the same contract suite as the real ones, so what passes on them is not a dream.
"""

from yadtq.store.memory import MemoryStore
from yadtq.testing.clock import ManualClock
from yadtq.testing.memory_broker import MemoryBroker
from yadtq.testing.memory_cluster import MemoryProducer
from yadtq.testing.memory_consumer import MemoryConsumer
from yadtq.testing.memory_group import Group
from yadtq.testing.memory_log import Log, MemoryRecord

__all__ = [
    "Group",
    "Log",
    "ManualClock",
    "MemoryBroker",
    "MemoryConsumer",
    "MemoryProducer",
    "MemoryRecord",
    "MemoryStore",
]
