"""Why Kafka can't be used with these settings: one more connection, made only after aiokafka's own have failed.

aiokafka logs why a connection failed, and raises "Unable to bootstrap". Here the reason is asked for again, so that the
error can say what the broker answered, and which setting to look at.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from yadtq.broker.token import NoToken
from yadtq.runtime.contact import causes, plain_answer, speaks_tls, tls_alert
from yadtq.runtime.tls import tls_problem
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

__all__ = ["Refusal", "Seen", "refusal", "verdict"]

_LOGIN = "kafka_user, kafka_password (YADTQ_KAFKA_USER, YADTQ_KAFKA_PASSWORD)"
_SASL = "kafka_sasl (YADTQ_KAFKA_SASL)"
_CLOSE_S = 1.0
_TLS = "kafka_tls (YADTQ_KAFKA_TLS)"
#: ApiVersions (18), version 0: correlation id 1, no client id.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Refusal(KafkaError):  # type: ignore[misc]
    """With these settings the brokers can't be used, and waiting does not help. Its text is for users."""

    def __str__(self) -> str:
        return str(self.args[0])  # aiokafka's puts the name of the class in front


class Seen(NamedTuple):
    """What a second look has found, if there was one (looked). alert: the end of a TLS connection on which nothing was said.
    mechanisms: of SASL, that the port offers; none if it takes no login. token: what the
    broker says of it.
    """

    tls: bool = False
    plain: bool = False
    mechanisms: tuple[str, ...] = ()
    token: str = ""
    alert: Exception | None = None
    looked: bool = False


async def refusal(hosts: Iterable[tuple[str, int, Any]], options: Mapping[str, Any]) -> KafkaError | None:
    """A `Refusal`, if waiting does not help, or `NoToken`; None if nothing is known, or nothing is there to be asked.

    hosts: of the bootstrap servers. options: of an `AIOKafkaConnection`.
    """
    for host, port, _ in hosts:
        if (problem := await _tried(host, port, options)) is None:
            continue
        if (absent := next((error for error in causes(problem) if isinstance(error, NoToken)), None)) is not None:
            return absent
        protocol, sasl = options["security_protocol"], options["sasl_mechanism"]
        asked = verdict(problem, protocol, sasl, Seen())
        if asked is None and _is_there(problem):
            asked = verdict(problem, protocol, sasl, await _look(host, port, options))
        if asked is not None:
            return Refusal(asked)
    return None


def verdict(problem: BaseException, protocol: str, sasl: str | None, seen: Seen) -> str | None:
    """What is wrong, and where to look: a pure decision.

    protocol: `SASL_SSL` and the like. sasl: the mechanism, if it is used. None: nothing that is known to last.
    """
    if (known := _answered([*causes(problem), *causes(seen.alert)], sasl, seen)) is not None:
        return known
    encrypted, has_login = protocol.endswith("SSL"), protocol.startswith("SASL")
    if encrypted and seen.plain:
        return f"it does not speak TLS on this port: see {_TLS}, or use the port for TLS"
    if not encrypted and seen.tls:
        return f"it speaks TLS on this port: set {_TLS}, or use the port without"
    if seen.mechanisms and not has_login:
        return f"it wants a login on this port ({', '.join(seen.mechanisms)}): set {_SASL}"
    if seen.token:
        return f"it refused the token: {seen.token}; see kafka_token"
    return None


def _answered(chain: list[BaseException], sasl: str | None, seen: Seen) -> str | None:
    for error in chain:
        if isinstance(error, SaslAuthenticationFailed):
            look = "kafka_token" if sasl == "OAUTHBEARER" else _LOGIN
            return f"it refused the login: {_said(error)}; see {look}"
        if isinstance(error, UnsupportedSaslMechanismError) and seen.mechanisms:
            return f"it does not offer {sasl}, but {', '.join(seen.mechanisms)}: see {_SASL}"
        # Also what follows a refused token: aiokafka takes it for accepted, and goes on.
        if isinstance(error, IllegalSaslStateError) and (
            sasl != "OAUTHBEARER" or (seen.looked and not seen.mechanisms)
        ):
            return f"it takes no login on this port: leave out {_SASL}, or use the port for SASL"
        if (problem := tls_problem(error, "kafka")) is not None:
            return problem
    return None


def _said(error: BaseException) -> str:
    """The broker's own text, without the number that aiokafka puts in front."""
    return shown(error).rpartition("SaslAuthenticationFailed: ")[2] or "it gave no reason"


def _is_there(problem: BaseException) -> bool:
    """Something has taken the connection: where nothing listens, there is nothing to look at."""
    return not any(isinstance(error, ConnectionRefusedError) for error in causes(problem))


@asynccontextmanager
async def _connection(host: str, port: int, options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    connection = AIOKafkaConnection(host, port, **options)
    try:
        await connection.connect()
        yield connection
    finally:
        if (closed := connection.close()) is not None:
            with anyio.move_on_after(_CLOSE_S):
                await asyncio.shield(closed)


async def _tried(host: str, port: int, options: Mapping[str, Any]) -> BaseException | None:
    try:
        async with _connection(host, port, options) as connection:
            answer = await connection.send(MetadataRequest([]))
            return None if answer.brokers else KafkaConnectionError("it answers, but names no brokers")
    except Exception as error:  # whatever it is: it is only looked at
        return error


async def _look(host: str, port: int, options: Mapping[str, Any]) -> Seen:
    protocol, sasl = options["security_protocol"], options["sasl_mechanism"]
    encrypted = protocol.endswith("SSL")
    if encrypted and (await plain_answer(host, port, _API_VERSIONS))[4:8] == _API_VERSIONS[8:12]:  # correlation id
        return Seen(plain=True, looked=True)
    if not encrypted and await speaks_tls(host, port):
        return Seen(tls=True, looked=True)
    bare = {**options, "security_protocol": "SSL" if encrypted else "PLAINTEXT"}
    try:
        async with _connection(host, port, bare) as connection:
            answer = await connection.send(SaslHandShakeRequest(sasl or "PLAIN"))
            offered = tuple(shown(name) for name in answer.enabled_mechanisms)
            token = ""
            if protocol.startswith("SASL") and sasl == "OAUTHBEARER" and sasl in offered:
                token = await _said_of_token(connection, options["sasl_oauth_token_provider"])
            return Seen(mechanisms=offered, token=token, looked=True)
    except (KafkaError, OSError, TimeoutError):
        alert = await tls_alert(host, port, options["ssl_context"]) if encrypted else None
        return Seen(alert=alert, looked=True)


async def _said_of_token(connection: AIOKafkaConnection, tokens: Any) -> str:
    """aiokafka does not read this answer: it takes a refused token for an accepted one."""
    payload, _ = await OAuthAuthenticator(sasl_oauth_token_provider=tokens).step(None)
    answer = await connection.send(SaslAuthenticateRequest(payload))
    return shown(answer.error_message or (answer.sasl_auth_bytes or b"").decode(errors="replace"))
