"""How every aiokafka client connects."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yadtq.settings import Settings

__all__ = ["bootstrapping", "connection_options"]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Keywords that every aiokafka client takes."""
    return {
        "bootstrap_servers": settings.kafka,
        "request_timeout_ms": int(settings.kafka_request_timeout_s * 1000),
        "metadata_max_age_ms": 30_000,
        "retry_backoff_ms": 100,
    }


@contextmanager
def bootstrapping() -> Iterator[None]:
    """Around the `start()` of an aiokafka client: closes the connection that a cancelled start forgets.

    While aiokafka asks its first connection for metadata, only a local variable of `AIOKafkaClient.bootstrap` knows of it. A
    deadline that ends in that moment would leave it open until the garbage collector complains. So it is looked for where it
    still can be found: in the traceback.
    """
    try:
        yield
    except BaseException as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if (connection := frame.f_locals.get("bootstrap_conn")) is not None:
                connection.close()
        raise
