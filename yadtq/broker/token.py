"""Tokens for OAUTHBEARER: the app's function, asked for each new connection, under a deadline."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

from yadtq.shown import shown

__all__ = ["NoToken", "Tokens"]


class NoToken(KafkaError):  # type: ignore[misc]
    """Asked for again a moment later: who issues tokens may be away."""

    retriable = True

    def __str__(self) -> str:
        return str(self.args[0])  # aiokafka's puts the name of the class in front


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """What aiokafka asks. source: an async function, or an `AbstractTokenProvider`, which may have extensions."""

    def __init__(self, source: Any, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s

    async def token(self) -> str:
        """Raises `NoToken`."""
        ask = getattr(self._source, "token", self._source)
        try:
            async with asyncio.timeout(self._timeout_s):
                token = ask()
                token = await token if inspect.isawaitable(token) else token
        except TimeoutError:
            raise NoToken(f"kafka_token has returned nothing within {self._timeout_s:g} s") from None
        except Exception as error:  # the app's function may raise anything
            raise NoToken(f"kafka_token raised {type(error).__name__}: {shown(error)}") from error
        if not isinstance(token, str) or not token:
            raise NoToken(f"kafka_token must return a token as text, not {type(token).__name__}")
        return token

    def extensions(self) -> dict[str, str]:
        """Of the source, if it has any: some services want the name of a cluster here."""
        source = getattr(self._source, "extensions", None)
        return dict(source()) if callable(source) else {}
