"""Checks before the start what the account may do on Redis: every command of the scripts, and those used besides.

One packet and one connection, so it delays the start by one round trip.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from redis.exceptions import NoScriptError, ResponseError

from yadtq.errors import CONNECT, StoreRefused
from yadtq.shown import shown, shown_value
from yadtq.store.answers import Misread, refuses, text_of
from yadtq.store.scripts import Script

if TYPE_CHECKING:
    from yadtq.store.keys import Keys
    from yadtq.store.link import Link

__all__ = ["probe"]

log = logging.getLogger("yadtq.store")

_PROBE = Script("probe")


async def probe(link: Link, keys: Keys, app: str, seconds: float) -> None:
    """Raises `StoreRefused` for what waiting does not fix, `StoreUnavailable` for the rest, after `seconds` at most."""
    channel = keys.waiter + "probe"
    commands: list[tuple[Any, ...]] = [
        ("PING",),
        ("EVALSHA", _PROBE.digest, "1", keys.probe, keys.control, channel),
        ("EVAL", _PROBE.source, "1", keys.probe, keys.control, channel),
        ("SET", keys.probe, "1", "EX", "60"),
        ("MGET", keys.probe),
        ("DEL", keys.probe),
        ("CONFIG", "GET", "maxmemory*"),
        ("SUBSCRIBE", keys.control),
        ("SUBSCRIBE", channel),
    ]
    packed = b"".join(pack_command(command) for command in commands)
    found: list[tuple[str, str]] = []

    async def ask() -> list[Any]:
        try:
            answers = await link.send_all(packed, len(commands))
        except Exception as error:  # only to see what it is: the rest is `within`'s
            if refuses(error):
                found.append((CONNECT, shown(error)))
                return []
            raise
        for (command, *_), answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError) and not isinstance(answer, NoScriptError) and command != "CONFIG":
                if not refuses(answer):
                    raise answer
                found.append((str(command), text_of(answer)))
        found.extend(_refused_in_script(answers[1]) or _refused_in_script(answers[2]))
        return answers

    answers = await link.within(ask(), "what is asked at the start", seconds=seconds)
    if found:
        raise StoreRefused(app, list(dict(reversed(found)).items()))
    _warn_of_eviction(answers[6])


def _refused_in_script(answer: Any) -> list[tuple[str, str]]:
    """From what probe.lua returns: command and error, for each that was refused. Raises an outage as it came."""
    if isinstance(answer, ResponseError):
        return []
    if type(answer) is not list or len(answer) % 2 or not all(type(part) is bytes for part in answer):
        raise Misread(f"expected commands and errors, got {shown_value(answer, 200)}")
    words = [shown(part.decode(errors="replace")) for part in answer]
    refused = []
    for command, text in zip(words[::2], words[1::2], strict=True):
        error = ResponseError(text)
        if not refuses(error):
            raise error
        refused.append((command, text))
    return refused


def _warn_of_eviction(answer: Any) -> None:
    if type(answer) is not list or len(answer) % 2:
        return  # hosted servers forbid CONFIG: the check is not possible then
    settings = dict(zip(answer[::2], answer[1::2], strict=True))
    policy = settings.get(b"maxmemory-policy", b"noeviction")
    if settings.get(b"maxmemory", b"0") != b"0" and policy != b"noeviction":
        log.warning("Redis may evict task state (maxmemory-policy is %s): set it to noeviction", shown(policy.decode()))
