"""What an answer of Redis means: data, an outage, or, at the start only, a refusal. No I/O.

While a process runs, every error of Redis or of the connection to it is an outage: the call is repeated, nothing is
lost, and no task fails because of it. No list of errors says which (a rotated password is answered with "Protocol
error: unauthenticated multibulk length"). Damaged data of one task is not an error answer: the scripts detect it and
return a verdict for that task. Only at the start, when no work is in progress, is an error fatal that waiting does not
fix.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import AuthenticationError, AuthorizationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from yadtq.errors import StoreUnavailable
from yadtq.shown import shown, shown_value

__all__ = ["Misread", "integers", "nothing", "refuses", "text_of", "unavailable", "yes_or_no"]

#: Temporary error answers: the server is reachable and can't serve now.
_PASSING = (
    *("OOM", "MISCONF", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY"),
    "max number of clients",
)


class Misread(ValueError):
    """An answer that the command can't have: the server is not Redis, or answers no longer match their requests."""


def unavailable(error: Exception, what: str, seconds: float) -> StoreUnavailable:
    """`error` of the call `what`, which had `seconds`, as the one error that callers handle."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return StoreUnavailable(f"Redis did not answer {what} within {seconds:g} s; is it running and reachable?")
    text = shown(error)
    if isinstance(error, RedisConnectionError | OSError):
        return StoreUnavailable(f"Redis: {text}; is it running, and is YADTQ_REDIS right?")
    if isinstance(error, ResponseError):
        return StoreUnavailable(f"Redis can't serve {what}: {text_of(error)}")
    return StoreUnavailable(f"Redis answered {what} with something else: {type(error).__name__}: {text}")


def text_of(error: ResponseError) -> str:
    """With the error code in front, which redis-py removes from errors that it knows."""
    text = shown(error)
    code = error.status_code
    return text if not code or text.startswith(str(code)) else f"{code} {text}"


def refuses(error: BaseException) -> bool:
    """Whether `error`, at the start, means that this account or this server can never work."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return True
    # Older servers put the code inside the text of a script's error.
    return isinstance(error, ResponseError) and not any(word in text_of(error) for word in _PASSING)


def integers(answer: Any, count: int, lowest: int) -> list[int]:
    """`answer`, a list of `count` integers, none below `lowest`. Raises `Misread`."""
    try:
        if type(answer) is list and len(answer) == count and not (count and min(answer) < lowest):
            # One comparison of the whole list also detects other types: a loop in Python would cost 0.1 us a task.
            return answer
    except TypeError:
        pass
    raise Misread(f"expected {count} integers of at least {lowest}, got {shown_value(answer, 200)}")


def nothing(answer: Any) -> None:
    """Of a script that returns nothing. Raises `Misread`."""
    if answer is not None:
        raise Misread(f"expected nothing, got {shown_value(answer, 200)}")


def yes_or_no(answer: Any) -> bool:
    """Of a script that returns 1 or 0. Raises `Misread`."""
    return integers([answer], 1, 0)[0] == 1
