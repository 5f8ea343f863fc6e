"""Kafka in memory: `MemoryBroker` is the cluster, `for_app` makes of it what one process is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.testing.memory_app import MemoryAppBroker
from yadtq.testing.memory_cluster import MemoryCluster

if TYPE_CHECKING:
    from yadtq.settings import Settings
    from yadtq.wire.names import TopicNames

__all__ = ["MemoryBroker"]


class MemoryBroker(MemoryCluster):
    """One cluster for any number of processes, in one loop or in several.

    Example: `Outside(broker=MemoryBroker().for_app(names), ...)`
    """

    def for_app(self, names: TopicNames, settings: Settings | None = None) -> MemoryAppBroker:
        """A `seams.Broker`. settings: of the app; None takes the defaults."""
        return MemoryAppBroker(self, names, settings)
