"""How every aiokafka client connects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yadtq.settings import Settings

__all__ = ["connection_options"]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Keywords that every aiokafka client takes."""
    return {
        "bootstrap_servers": settings.kafka,
        "request_timeout_ms": int(settings.kafka_request_timeout_s * 1000),
        "metadata_max_age_ms": 30_000,
        "retry_backoff_ms": 100,
    }
