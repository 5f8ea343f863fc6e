"""What the tasks of one worker process share, opened before its first task and closed after its last."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq import Yadtq


class BankClosed(Exception):
    """Try again later."""


@dataclass
class Bank:
    """Stands for a payment service. It recognises a repeat by its key, as real ones do."""

    closed_for: int = 0
    charged: dict[str, int] = field(default_factory=dict)

    async def charge(self, key: str, cents: int) -> None:
        if self.closed_for > 0:
            self.closed_for -= 1
            raise BankClosed("closed")
        self.charged.setdefault(key, cents)


@dataclass
class State:
    """ctx.state."""

    bank: Bank = field(default_factory=Bank)
    sent: list[str] = field(default_factory=list)


@asynccontextmanager
async def lifespan(app: Yadtq) -> AsyncIterator[State]:
    # Here a real application would open its pool of connections, as `async with`.
    yield STATE


#: Of this process. A pool would be made in `lifespan`; this one outlives it, so that the tests can look inside.
STATE = State()
