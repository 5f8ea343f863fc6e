"""The options of a task: each declared once, with its rule, its field on the wire and its flag on the command line.

`@app.task(...)` takes `TaskOptions`; `task.options(...)`, the blocking client and `yadtq submit` take `CallOptions`.
All of them are checked by `checked`, and nowhere else. A new option is a line in one of the two types and a line in
`RULES`; if it travels, also a field of the envelope.
"""

from __future__ import annotations

import difflib
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict

from yadtq.errors import ConfigError
from yadtq.retry import RetryPolicy
from yadtq.shown import shown_value
from yadtq.wire.ids import checked_id, checked_name
from yadtq.wire.names import checked_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from yadtq.wire.envelope import Envelope

__all__ = ["RULES", "CallOptions", "Effective", "Rule", "TaskOptions", "checked", "effective", "wire_fields"]

#: Far above any use, and far below what a JSON reader refuses.
_MOST_RETRIES = 1_000_000_000


class TaskOptions(TypedDict, total=False):
    """The options of a task for all its calls: `@app.task(retries=3)`. None is the same as left out."""

    name: str | None
    queue: str | None
    retries: int | None
    retry_base: float | None
    retry_cap: float | None
    timeout: float | None


class CallOptions(TypedDict, total=False):
    """What one submit may set for itself: `task.options(retries=5)`. None takes the task's own."""

    task_id: str | None
    queue: str | None
    retries: int | None
    timeout: float | None
    fresh: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One option.

    check: gives the value as it is kept, or raises `ConfigError`. kind: what the command line reads. line: for people.
    wire: the envelope's field. flag: of `yadtq submit`.
    """

    check: Callable[[str, Any], Any]
    kind: type
    line: str
    wire: str | None = None
    flag: str | None = None


def _wrong(name: str, must_be: str, value: object) -> ConfigError:
    return ConfigError(f"{name} must be {must_be}, not {shown_value(value)}")


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)
    return value


def _count(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= _MOST_RETRIES:
        raise _wrong(name, f"a whole number from 0 to {_MOST_RETRIES:,}", value)
    return number


def _number(value: Any) -> float:
    """NaN for what is no number, or none that a float can hold."""
    if isinstance(value, bool | str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _seconds(name: str, value: Any) -> float:
    seconds = _number(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise _wrong(name, "a positive number of seconds", value)
    return seconds


def _seconds_or_zero(name: str, value: Any) -> float:
    seconds = _number(value)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise _wrong(name, "0 or a positive number of seconds", value)
    return seconds


RULES: Mapping[str, Rule] = {
    "name": Rule(
        check=lambda _, value: checked_name(value),
        kind=str,
        line="the task's name on the wire; default: the function's",
        wire="task",
    ),
    "task_id": Rule(
        check=lambda _, value: checked_id(value),
        kind=str,
        line="your own id; to submit the same id again never runs it twice",
        wire="id",
        flag="--id",
    ),
    "fresh": Rule(
        check=_yes_or_no,
        kind=bool,
        line="inside a running task: a new id for each call, so that a retry of the task submits it again",
    ),
    "queue": Rule(
        check=lambda _, value: checked_queue(value),
        kind=str,
        line="the queue it goes to; default: `default`",
        flag="--queue",
    ),
    "retries": Rule(
        check=_count, kind=int, line="attempts after the first; default: 0", wire="retries", flag="--retries"
    ),
    "retry_base": Rule(
        check=_seconds_or_zero, kind=float, line="seconds before the first retry, doubled for each further; default: 1"
    ),
    "retry_cap": Rule(check=_seconds_or_zero, kind=float, line="most seconds between two attempts; default: 300"),
    "timeout": Rule(
        check=_seconds,
        kind=float,
        line="seconds an attempt may take; default: no limit",
        wire="timeout_s",
        flag="--timeout",
    ),
}


def checked(options: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The options that are set, as they are kept. Raises `ConfigError` for a wrong value or name.

    known: the names that may be used here, as `CallOptions.__annotations__`.
    """
    found = {}
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise ConfigError(f"no option {name!r} here: {hint}")
        if value is not None:
            found[name] = RULES[name].check(name, value)
    return found


def wire_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope's fields that checked options set."""
    return {field: value for name, value in options.items() if (field := RULES[name].wire) is not None}


class Effective(NamedTuple):
    """What holds for one delivery. timeout_s: None: no limit."""

    retry: RetryPolicy
    timeout_s: float | None


class _OfTask(Protocol):
    @property
    def rules(self) -> Effective: ...


_UNKNOWN_TASK = Effective(RetryPolicy(), None)


def effective(task: _OfTask | None, envelope: Envelope) -> Effective:
    """The task's own rules, with those of this call over them. task: None if no task of that name is known here."""
    rules = task.rules if task is not None else _UNKNOWN_TASK
    if envelope.retries is not None:
        rules = rules._replace(retry=rules.retry.with_retries(envelope.retries))
    if envelope.timeout_s is not None:
        rules = rules._replace(timeout_s=envelope.timeout_s)
    return rules
