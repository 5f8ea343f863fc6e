"""What answers at an address: asked only after a connection has failed, to say which setting is wrong.

A client that speaks TLS to a port that does not, or the reverse, sees a closed connection, or nothing at all: the same as
of a server that is just starting. Only a second look, in the other language, can tell.
"""

from __future__ import annotations

import asyncio
import ssl

from yadtq.runtime.tls import without_checks

__all__ = ["causes", "plain_answer", "speaks_tls", "tls_alert"]

_LOOK_S = 2.0
_SILENT_S = 1.0


def causes(error: BaseException | None) -> list[BaseException]:
    """The error and what led to it, the outermost first: libraries wrap what the socket has said."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


async def speaks_tls(host: str, port: int, *, seconds: float = _LOOK_S) -> bool:
    """Whether a TLS handshake is answered there, by an alert too. Never raises but when cancelled."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=without_checks())
    except ssl.SSLError as error:
        return "ALERT" in (getattr(error, "reason", None) or "")
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()
    return True


async def tls_alert(host: str, port: int, context: ssl.SSLContext, *, seconds: float = _SILENT_S) -> Exception | None:
    """The alert with which the server ends a TLS connection on which nothing is said; None if it keeps it open.

    A server that refuses our certificate says so after the handshake. If the client has sent something meanwhile, its
    system throws the alert away, and all that is left is a connection that was reset.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            await reader.read(1)
    except (OSError, TimeoutError) as error:
        return error if isinstance(error, ssl.SSLError) else None
    finally:
        if writer is not None:
            writer.transport.abort()
    return None


async def plain_answer(host: str, port: int, question: bytes, *, seconds: float = _LOOK_S) -> bytes:
    """The first bytes that the port answers without TLS; empty if there are none. Never raises but when cancelled."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(question)
            return await reader.read(64)
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()
