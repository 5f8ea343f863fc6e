"""Contexts that are shared and renewed, and what failed connections mean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.certificates import Certificate, Certificates
from yadtq.broker.contact import Seen, verdict
from yadtq.broker.token import NoToken, Tokens
from yadtq.runtime.contact import causes, plain_answer, speaks_tls
from yadtq.runtime.tls import Tls, tls_context
from yadtq.store.contact import Seen as RedisSeen
from yadtq.store.contact import verdict as redis_verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def server(certificate: Certificate | None, ca_file: str | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Answers a byte. Gives its port, and the names in the certificates of its clients."""
    context: ssl.SSLContext | None = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        if ca_file is not None:
            context.load_verify_locations(ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    names: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peercert")
        names.extend(value for part in (peer or {}).get("subject", ()) for key, value in part if key == "commonName")
        writer.write(b"x")
        with contextlib.suppress(OSError):  # a look ends by cutting the connection
            await reader.read(64)
        writer.close()

    listening = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1], names


async def talk(port: int, tls: Tls) -> None:
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls_context(tls))
    assert await reader.read(1) == b"x"
    writer.close()
    await writer.wait_closed()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certs")


def test_one_context_for_one_set_of_files(certificates: Certificates) -> None:
    assert tls_context(Tls("kafka", certificates.ca_file)) is tls_context(Tls("kafka", certificates.ca_file))


async def test_renewed_certificates_are_used_by_the_next_connection(certificates: Certificates, tmp_path: Path) -> None:
    first, second = certificates.issue("first"), certificates.issue("second")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    ours = Tls("kafka", certificates.ca_file, str(cert), str(key))

    def install(certificate: Certificate, moment: int) -> None:
        shutil.copyfile(certificate.cert, cert)
        shutil.copyfile(certificate.key, key)
        for path in (cert, key):
            os.utime(path, (moment, moment))

    install(first, 1)
    async with server(certificates.issue("server", HOST), certificates.ca_file) as (port, names):
        await talk(port, ours)
        install(second, 2)
        await talk(port, ours)
    assert names == ["first", "second"]


async def test_a_half_written_certificate_is_not_used(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = certificates.issue("first")
    cert = tmp_path / "both.pem"
    shutil.copyfile(first.both, cert)
    ours = Tls("kafka", certificates.ca_file, str(cert))
    async with server(certificates.issue("server", HOST), certificates.ca_file) as (port, names):
        await talk(port, ours)
        cert.write_text("half")
        os.utime(cert, (2, 2))
        with caplog.at_level(logging.WARNING, "yadtq.tls"):
            await talk(port, ours)
    assert names == ["first", "first"]
    assert "not used yet" in caplog.text


async def test_the_name_may_differ_from_the_address(certificates: Certificates) -> None:
    async with server(certificates.issue("server", "broker.example")) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(port, Tls("kafka", certificates.ca_file))
        await talk(port, Tls("kafka", certificates.ca_file, server_name="broker.example"))
        await talk(port, Tls("kafka", certificates.ca_file, check_hostname=False))


async def test_what_a_port_speaks(certificates: Certificates) -> None:
    async with server(certificates.issue("server", HOST)) as (port, _):
        assert await speaks_tls(HOST, port)
    async with server(None) as (port, _):
        assert not await speaks_tls(HOST, port, seconds=1)
        assert await plain_answer(HOST, port, b"PING\r\n") == b"x"
    assert not await speaks_tls(HOST, port)
    assert await plain_answer(HOST, port, b"PING\r\n") == b""


def wrapped(cause: BaseException) -> BaseException:
    error = KafkaConnectionError("closed")
    error.__cause__ = cause
    return error


CLOSED = KafkaConnectionError("closed")


@pytest.mark.parametrize(
    ("error", "protocol", "seen", "said"),
    [
        (SaslAuthenticationFailed("Authentication failed: x"), "SASL_SSL", Seen(), "Authentication failed: x"),
        (IllegalSaslStateError("x"), "SASL_SSL", Seen(), None),  # a refused token looks like this, too
        (UnsupportedSaslMechanismError(), "SASL_SSL", Seen(mechanisms=("SCRAM-SHA-512",)), "SCRAM-SHA-512"),
        (wrapped(ssl.SSLError(1, "[SSL: X_ALERT] x")), "SSL", Seen(), None),
        (CLOSED, "SSL", Seen(plain=True), "does not speak TLS"),
        (CLOSED, "PLAINTEXT", Seen(tls=True), "speaks TLS"),
        (CLOSED, "SSL", Seen(mechanisms=("PLAIN",)), "wants a login"),
        (CLOSED, "SASL_SSL", Seen(mechanisms=("OAUTHBEARER",), token='{"status":"invalid_token"}'), "invalid_token"),
        (IllegalSaslStateError("x"), "SASL_SSL", Seen(looked=True), "takes no login"),
        (
            IllegalSaslStateError("x"),
            "SASL_SSL",
            Seen(mechanisms=("OAUTHBEARER",), token="expired", looked=True),
            "refused the token: expired",
        ),
        # Of these nobody knows how long they last.
        (CLOSED, "SASL_SSL", Seen(mechanisms=("PLAIN",)), None),
        (CLOSED, "PLAINTEXT", Seen(), None),
        (TimeoutError(), "SSL", Seen(), None),
        (ConnectionResetError(), "SSL", Seen(), None),
    ],
)
def test_what_a_failure_of_kafka_means(error: BaseException, protocol: str, seen: Seen, said: str | None) -> None:
    found = verdict(error, protocol, "OAUTHBEARER", seen)
    assert found is None if said is None else found is not None and said in found


@pytest.mark.parametrize(
    ("encrypted", "seen", "said"),
    [
        (True, RedisSeen(plain=True), "does not speak TLS"),
        (False, RedisSeen(tls=True), "rediss://"),
        (True, RedisSeen(tls=True), None),
        (False, RedisSeen(plain=True), None),
        (False, RedisSeen(), None),
    ],
)
def test_what_a_failure_of_redis_means(encrypted: bool, seen: RedisSeen, said: str | None) -> None:
    found = redis_verdict(RedisConnectionError("closed"), encrypted=encrypted, seen=seen)
    assert found is None if said is None else found is not None and said in found


def test_causes_end_also_in_a_circle() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert causes(first) == [first, second]


class TestTokens:
    async def test_a_function_and_a_provider(self) -> None:
        class Provider:
            async def token(self) -> str:
                return "b"

            def extensions(self) -> dict[str, str]:
                return {"logicalCluster": "x"}

        async def function() -> str:
            return "a"

        assert await Tokens(function, 1).token() == "a"
        assert Tokens(function, 1).extensions() == {}
        assert await Tokens(Provider(), 1).token() == "b"
        assert Tokens(Provider(), 1).extensions() == {"logicalCluster": "x"}

    @pytest.mark.parametrize("result", ["", None, 7, b"x"])
    async def test_what_is_no_token(self, result: Any) -> None:
        async def function() -> Any:
            return result

        with pytest.raises(NoToken, match="must return a token"):
            await Tokens(function, 1).token()

    async def test_one_that_hangs_or_raises(self) -> None:
        async def hangs() -> str:
            await asyncio.Event().wait()
            return ""

        async def raises() -> str:
            raise KeyError("x\ny")

        with pytest.raises(NoToken, match=r"within 0\.01 s"):
            await Tokens(hangs, 0.01).token()
        with pytest.raises(NoToken, match="raised KeyError") as caught:
            await Tokens(raises, 1).token()
        assert "\n" not in str(caught.value)
