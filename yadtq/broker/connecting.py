"""How every aiokafka client connects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.broker.token import Tokens
from yadtq.runtime.tls import tls_context, tls_of

if TYPE_CHECKING:
    from yadtq.settings import Settings

__all__ = ["connection_options"]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Keywords that every aiokafka client takes. Raises `ConfigError` if a certificate can't be read."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka,
        "request_timeout_ms": int(settings.kafka_request_timeout_s * 1000),
        "metadata_max_age_ms": 30_000,
        "retry_backoff_ms": 100,
        "security_protocol": f"{'SASL_' if settings.kafka_sasl else ''}{'SSL' if settings.kafka_tls else 'PLAINTEXT'}",
    }
    if settings.kafka_tls:
        options["ssl_context"] = tls_context(tls_of(settings, "kafka"))
    if settings.kafka_sasl == "OAUTHBEARER":
        tokens = Tokens(settings.kafka_token, settings.kafka_request_timeout_s)
        options |= {"sasl_mechanism": settings.kafka_sasl, "sasl_oauth_token_provider": tokens}
    elif settings.kafka_sasl and settings.kafka_password is not None:
        options |= {
            "sasl_mechanism": settings.kafka_sasl,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return options
