"""How to reach Kafka and Redis: the settings of every connection, and which of them belong together.

A combination that does not say clearly what is meant is refused: silently, it could mean a password in clear text, or a
certificate that nobody checks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from yadtq.environment import EnvironmentSettings
from yadtq.shown import shown_value

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["Connections", "forget_connections"]

#: Parameters of a Redis URL that are secrets, with the setting that each is.
_IN_QUERY = {"password": "redis_password", "ssl_password": "redis_key_password"}


class Connections(EnvironmentSettings):
    """Part of `Settings`."""

    model_config = SettingsConfigDict(env_prefix="YADTQ_", frozen=True, extra="forbid")
    secrets = frozenset({"redis"})  # its URL may have a password in it
    in_code = frozenset({"kafka_token", "redis_credentials"})

    kafka: str = Field("localhost:9092", description="bootstrap servers, host:port separated by commas")
    redis: str = Field("redis://localhost:6379/0", description="redis://, rediss:// (TLS) or unix:// URL")

    kafka_tls: bool = Field(False, description="encrypted connections to Kafka")
    kafka_ca_file: str | None = Field(None, description="PEM of the CAs that sign the brokers; none: the system's")
    kafka_cert_file: str | None = Field(None, description="PEM of our certificate, for brokers that ask for one")
    kafka_key_file: str | None = Field(None, description="PEM of its private key; none: it is in kafka_cert_file")
    kafka_key_password: SecretStr | None = Field(None, description="of an encrypted private key")
    kafka_server_name: str | None = Field(None, description="name in the brokers' certificates; none: their host name")
    kafka_check_hostname: bool = Field(True, description="compare that name; off: any certificate of the CA will do")
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="how to log in to Kafka; none: without a login"
    )
    kafka_user: str | None = Field(None, description="for PLAIN and SCRAM")
    kafka_password: SecretStr | None = Field(None, description="for PLAIN and SCRAM")
    kafka_token: Any = Field(
        None, repr=False, description="for OAUTHBEARER: an async function that returns a new token"
    )

    redis_user: str | None = Field(None, description="ACL user; none: the one in the URL, or the default user")
    redis_password: SecretStr | None = Field(None, description="may also be in the URL, from which it is taken out")
    redis_credentials: Any = Field(
        None, repr=False, description="a `redis.credentials.CredentialProvider`, in place of user and password"
    )
    redis_ca_file: str | None = Field(None, description="PEM of the CAs that sign the server; none: the system's")
    redis_cert_file: str | None = Field(None, description="PEM of our certificate, for a server that asks for one")
    redis_key_file: str | None = Field(None, description="PEM of its private key; none: it is in redis_cert_file")
    redis_key_password: SecretStr | None = Field(None, description="of an encrypted private key")
    redis_server_name: str | None = Field(None, description="name in the server's certificate; none: its host name")
    redis_check_hostname: bool = Field(True, description="compare that name; off: any certificate of the CA will do")

    @model_validator(mode="before")
    @classmethod
    def _secrets_apart(cls, given: Any) -> Any:
        return _split_secrets(given) if isinstance(given, dict) else given

    @field_validator("kafka_sasl", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("kafka")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            host, colon, port = address.strip().rpartition(":")
            if not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError(f"expected host:port, or several separated by commas; {_told(address)} is neither")
        return value

    @field_validator("redis")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError:
            raise ValueError("expected a URL like redis://host:6379/0") from None
        if url.scheme == "unix":
            if not url.path:
                raise ValueError("expected a URL like unix:///path/of/the/socket?db=0")
        elif url.scheme not in ("redis", "rediss") or not url.hostname or port == 0:
            raise ValueError("expected a URL like redis://host:6379/0")
        # Anything but a number would mean database 0.
        elif url.path not in ("", "/") and not re.fullmatch(r"/\d{1,5}", url.path):
            raise ValueError("expected the number of a database at the end, as in redis://host:6379/0")
        if any(not number.isdigit() for number in parse_qs(url.query, keep_blank_values=True).get("db", ())):
            raise ValueError("expected the number of a database after db=")
        return value

    @model_validator(mode="after")
    def _connections_are_complete(self) -> Self:
        if problem := _kafka_problem(self) or _redis_problem(self):
            raise ValueError(problem)
        return self


def _told(address: str) -> str:
    return "a value with a password" if "@" in address else shown_value(address)


def _split_secrets(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the passwords of the Redis URL as settings of their own, so that the URL may be shown.

    Raises ValueError if a password is given twice, and differently.
    """
    url = given.get("redis")
    if not isinstance(url, str):
        return given
    url, found = _without_secrets(url)
    for name, secret in found.items():
        other = given.get(name)
        if other is not None and _text(other) != secret:
            raise ValueError(f"the Redis URL has a password, and {name} (YADTQ_{name.upper()}) is another: give one")
    return {**given, "redis": url, **{name: SecretStr(secret) for name, secret in found.items()}}


def _text(secret: Any) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else str(secret)


def _without_secrets(url: str) -> tuple[str, dict[str, str]]:
    """A URL that is malformed is returned as it is: the check of the field refuses it, without showing it."""
    try:
        login, at, _ = urlsplit(url).netloc.rpartition("@")
    except ValueError:
        return url, {}
    found: dict[str, str] = {}
    user, _, password = login.partition(":")
    if password:
        found["redis_password"] = unquote(password)
        url = url.replace(login + at, user + at if user else "", 1)
    place, mark, query = url.partition("?")
    kept = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name in _IN_QUERY and value:
            found.setdefault(_IN_QUERY[name], unquote(value))
        else:
            kept.append(pair)
    query = "&".join(kept)
    return f"{place}{mark if query else ''}{query}", found


def _kafka_problem(settings: Connections) -> str | None:
    """What contradicts itself in the settings of Kafka's connections."""
    return _kafka_login(settings) or _files(settings, "kafka", settings.kafka_tls, "kafka_tls=True (YADTQ_KAFKA_TLS=1)")


def _kafka_login(settings: Connections) -> str | None:
    sasl, token = settings.kafka_sasl, settings.kafka_token
    has_password = settings.kafka_user is not None or settings.kafka_password is not None
    if token is not None and not callable(token) and not callable(getattr(token, "token", None)):
        return f"kafka_token takes an async function that returns a token, not a {type(token).__name__}"
    if sasl is None and (has_password or token is not None):
        what = "kafka_user and kafka_password are" if has_password else "kafka_token is"
        return f"{what} given, but not how to log in: set kafka_sasl (YADTQ_KAFKA_SASL), for example SCRAM-SHA-512"
    if sasl == "OAUTHBEARER":
        if token is None:
            return (
                "kafka_sasl=OAUTHBEARER needs kafka_token, an async function given in code: name the app as module:app"
            )
        both = "kafka_sasl=OAUTHBEARER logs in by kafka_token: leave out kafka_user, kafka_password"
        return both if has_password else None
    if token is not None:
        return f"kafka_token is for kafka_sasl=OAUTHBEARER, and this is {sasl}"
    if sasl is not None and (settings.kafka_user is None or settings.kafka_password is None):
        missing = "kafka_password" if settings.kafka_user is not None else "kafka_user"
        file = ", or YADTQ_KAFKA_PASSWORD_FILE" if missing == "kafka_password" else ""
        return f"kafka_sasl={sasl} needs {missing} (YADTQ_{missing.upper()}{file})"
    return None


def _redis_problem(settings: Connections) -> str | None:
    """What contradicts itself in the settings of Redis's connections."""
    url = urlsplit(settings.redis)
    user = unquote(url.username or "") or None
    if settings.redis_user is not None and user is not None and settings.redis_user != user:
        return "the Redis URL names a user, and redis_user (YADTQ_REDIS_USER) another: give one"
    if settings.redis_credentials is not None:
        if not hasattr(settings.redis_credentials, "get_credentials"):
            kind = type(settings.redis_credentials).__name__
            return f"redis_credentials takes a redis.credentials.CredentialProvider, not a {kind}"
        if settings.redis_user or user or settings.redis_password:
            return "redis_credentials gives user and password: leave out redis_user, redis_password, those in the URL"
    return _files(settings, "redis", url.scheme == "rediss", "a rediss:// URL")


def _files(settings: Connections, server: str, is_encrypted: bool, needed: str) -> str | None:
    names = [f"{server}_{name}" for name in ("ca_file", "cert_file", "key_file", "key_password", "server_name")]
    given = [name for name in names if getattr(settings, name) is not None]
    if not getattr(settings, f"{server}_check_hostname"):
        given.append(f"{server}_check_hostname")
    if given and not is_encrypted:
        return f"{given[0]} is for TLS, which is off: set {needed} too"
    for name in given:
        if re.search("key_(file|password)$", name) and getattr(settings, f"{server}_cert_file") is None:
            return f"{name} belongs to a certificate: set {server}_cert_file (YADTQ_{server.upper()}_CERT_FILE) too"
    return None


def forget_connections(environ: MutableMapping[str, str]) -> None:
    """Remove what the environment says of other servers: for a program that brings servers of its own."""
    for variable in Connections.variables():
        environ.pop(variable, None)
