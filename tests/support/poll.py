"""Wait for a condition with a deadline: the only place in the tests that sleeps.

A test that sleeps is slow when it passes and flaky when the machine is busy; one that polls is neither, and says what
it was waiting for when it gives up.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], *, timeout: float = ..., interval: float = ..., what: str = ...
) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, timeout: float = ..., interval: float = ..., what: str = ...) -> T: ...
async def eventually(
    check: Callable[[], object], *, timeout: float = 10.0, interval: float = 0.02, what: str = ""
) -> object:
    """Call `check` (sync or async) until it returns something truthy, and return that.

    An exception counts as "not yet", so that a check may simply assert, or index into what is not there yet.
    """
    deadline = time.monotonic() + timeout
    last = "nothing: it never returned"
    while True:
        try:
            # An awaited check shares the deadline: a hanging one must not outlive the test's patience.
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())) as scope:
                value = check()
                if inspect.isawaitable(value):
                    value = await value
            if value:
                return value
            last = f"value {value!r}"
        except Exception as error:
            # Time-outs of ours say nothing about the state; keep what was seen before.
            if not (isinstance(error, TimeoutError) and scope.expired()):
                last = f"exception {error!r}"
        if time.monotonic() >= deadline:
            raise AssertionError(_gave_up(what, check, timeout, last))
        await asyncio.sleep(interval)


def eventually_blocking(check: Callable[[], T], *, timeout: float = 10.0, interval: float = 0.02, what: str = "") -> T:
    """The same for code without a loop, such as the session fixtures that start servers."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = check()
            if value:
                return value
            last = f"value {value!r}"
        except Exception as error:
            last = f"exception {error!r}"
        if time.monotonic() >= deadline:
            raise AssertionError(_gave_up(what, check, timeout, last))
        time.sleep(interval)


async def consistently(
    check: Callable[[], object], *, during: float = 0.5, interval: float = 0.02, what: str = ""
) -> None:
    """Assert that `check` (sync or async) stays truthy for `during` seconds: the way to say "nothing happens"."""
    deadline = time.monotonic() + during
    while True:
        value = check()
        if inspect.isawaitable(value):
            value = await value
        if not value:
            left = deadline - time.monotonic()
            raise AssertionError(f"not true for {during} s: {what or repr(check)} ({left:.2f} s before the end)")
        if time.monotonic() >= deadline:
            return
        await asyncio.sleep(interval)


def _gave_up(what: str, check: object, timeout: float, last: str) -> str:
    return f"waited {timeout} s for {what or repr(check)}; last {last}"
