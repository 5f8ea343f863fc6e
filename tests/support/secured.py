"""Apache Kafka with SASL_SSL and an authorizer, and Redis with TLS and an account of least rights.

Both also have a port for the test itself: Kafka's listener `admin`, and Redis's plain port with the password `ADMIN`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its own types don't name them
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from redis import Redis

from tests.support.certificates import Certificate, Certificates
from tests.support.kafka_server import KafkaServer
from tests.support.ports import reserve_port
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ADMIN",
    "PASSWORD",
    "RIGHTS",
    "USER",
    "SecuredKafka",
    "SecuredRedis",
    "documented_acl",
    "environment",
    "token",
]

USER, PASSWORD, ADMIN = "yadtq", "pass=w@rd%", "admin-password"
HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "tls.md"
_SASL = "org.apache.kafka.common.security"
#: Those of the page, by the names that Kafka has for them.
RIGHTS = {
    ResourceType.TOPIC: ("READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS", "DELETE", "ALTER", "ALTER_CONFIGS"),
    ResourceType.GROUP: ("READ",),
}


class SecuredKafka(KafkaServer):
    """Listeners: the main one with SASL_SSL, `mtls` (client certificates), `expired` (its certificate), `admin` (plain)."""

    name = "secured-kafka"

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        server = certificates.issue("broker", "localhost", "127.0.0.1")
        old = certificates.issue("old-broker", "localhost", "127.0.0.1", expired=True)
        super().__init__(directory, settings=_kafka_settings(certificates, server, old))
        self.ports = {name: self.add_listener(name) for name in ("mtls", "expired", "admin")}
        self.protocols = {"BROKER": "SASL_SSL", "MTLS": "SSL", "EXPIRED": "SSL"}
        self.format_options = [
            word
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for word in ("--add-scram", f'{mechanism}=[name={USER},password="{PASSWORD}"]')
        ]

    def at(self, listener: str) -> str:
        """Its address."""
        return f"{self.host}:{self.ports[listener]}"

    def allow(self, user: str = USER, rights: Iterable[tuple[ResourceType, str]] | None = None) -> None:
        """Give an account these rights on everything of ours; the documented ones unless given."""
        if rights is None:
            rights = [(kind, right) for kind, names in RIGHTS.items() for right in names]
        admin = AdminClient({"bootstrap.servers": self.at("admin")})
        acls = [
            AclBinding(
                *(kind, "yadtq.", ResourcePatternType.PREFIXED, f"User:{user}", "*"),
                *(AclOperation[right], AclPermissionType.ALLOW),
            )
            for kind, right in rights
        ]
        for answer in admin.create_acls(acls).values():
            answer.result(20)


def _kafka_settings(certificates: Certificates, server: Certificate, old: Certificate) -> dict[str, str]:
    plain = f'{_SASL}.plain.PlainLoginModule required user_{USER}="{PASSWORD}" user_nobody="{PASSWORD}";'
    oauth = f'{_SASL}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="admin";'
    return {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.broker.plain.sasl.jaas.config": plain,
        "listener.name.broker.oauthbearer.sasl.jaas.config": oauth,
        "listener.name.broker.scram-sha-256.sasl.jaas.config": f"{_SASL}.scram.ScramLoginModule required;",
        "listener.name.broker.scram-sha-512.sasl.jaas.config": f"{_SASL}.scram.ScramLoginModule required;",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": server.both,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates.ca_file,
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        "listener.name.expired.ssl.keystore.type": "PEM",
        "listener.name.expired.ssl.keystore.location": old.both,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The broker itself, and the test: both come by listeners without a login.
        "super.users": "User:ANONYMOUS",
    }


def token(user: str = USER, *, seconds: float = 300.0) -> str:
    """An unsigned token, which Kafka takes in tests only."""
    now = time.time() - 60.0  # a token of the future is refused, and clocks are read at different moments

    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'sub': user, 'iat': now, 'exp': now + 60.0 + seconds})}."


class SecuredRedis(RedisServer):
    """The TLS port has the user `USER`, with the documented rights."""

    name = "secured-redis"

    def __init__(
        self, directory: Path, certificates: Certificates, *, expired: bool = False, clients: str = "optional"
    ) -> None:
        """clients: whether they need certificates, in Redis's words."""
        server = certificates.issue("old-redis" if expired else "redis", "localhost", "127.0.0.1", expired=expired)
        self.tls_port = reserve_port()
        options = (
            *("--tls-port", str(self.tls_port), "--tls-cert-file", server.cert, "--tls-key-file", server.key),
            *("--tls-ca-cert-file", certificates.ca_file, "--tls-auth-clients", clients),
        )
        super().__init__(directory, options=options)

    @property
    def tls_url(self) -> str:
        """Without user and password."""
        return f"rediss://{self.host}:{self.tls_port}/0"

    def admin(self) -> Redis:
        """Close it."""
        return Redis(host=self.host, port=self.port, password=ADMIN)

    def allow(self, rule: str | None = None) -> None:
        """Close the default account, and make ours: by the line of the page unless given."""
        with Redis(host=self.host, port=self.port) as redis:
            words = (rule or documented_acl()).split()
            redis.execute_command(*(f">{PASSWORD}" if word == ">password" else word for word in words))
            redis.execute_command("ACL", "SETUSER", "default", "resetpass", f">{ADMIN}")


def environment(kafka: SecuredKafka, redis: SecuredRedis, certificates: Certificates, password: Path) -> dict[str, str]:
    """The variables that a process needs for both. password: the file to put it into."""
    password.write_text(f"{PASSWORD}\n")
    return {
        "YADTQ_KAFKA": kafka.address,
        "YADTQ_KAFKA_TLS": "1",
        "YADTQ_KAFKA_CA_FILE": certificates.ca_file,
        "YADTQ_KAFKA_SASL": "SCRAM-SHA-512",
        "YADTQ_KAFKA_USER": USER,
        "YADTQ_KAFKA_PASSWORD_FILE": str(password),
        "YADTQ_REDIS": redis.tls_url,
        "YADTQ_REDIS_CA_FILE": certificates.ca_file,
        "YADTQ_REDIS_USER": USER,
        "YADTQ_REDIS_PASSWORD_FILE": str(password),
    }


def documented_acl() -> str:
    """The line that users paste."""
    found = re.findall(r"^ACL SETUSER .*$", HOW_TO.read_text(), re.MULTILINE)
    assert len(found) == 1
    return str(found[0])
