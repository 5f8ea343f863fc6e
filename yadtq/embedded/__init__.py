"""A local Kafka and Redis in one `async with`, for development, demos and tests: no Docker, no Java, no waiting.

    async with EmbeddedStack() as stack:        # a temporary folder; EmbeddedStack("./data") keeps its data
        app = Yadtq("shop", kafka=stack.kafka, redis=stack.redis)

Both servers end with the process that started them, however it ends. Linux and macOS; needs `yadtq[embedded]`.
"""

from __future__ import annotations

from yadtq.embedded.errors import DataDirInUse, EmbeddedError, MissingServer, ServerStartFailed
from yadtq.embedded.ports import FreePorts, ports_free
from yadtq.embedded.server import ServerProcess
from yadtq.embedded.stack import EmbeddedStack

__all__ = [
    "DataDirInUse",
    "EmbeddedError",
    "EmbeddedStack",
    "FreePorts",
    "MissingServer",
    "ServerProcess",
    "ServerStartFailed",
    "ports_free",
]
