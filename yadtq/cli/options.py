"""Options that several commands have, and what they mean."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yadtq.app import Yadtq, load_app
from yadtq.errors import ConfigError
from yadtq.options import RULES, CallOptions
from yadtq.shown import shown, shown_value

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "APP_VARIABLE",
    "AppOption",
    "JsonOption",
    "KafkaOption",
    "RedisOption",
    "find_app",
    "parse_argument",
    "parse_call",
    "with_call_options",
]

APP_VARIABLE = "YADTQ_APP"
AppOption = Annotated[
    str, typer.Option("--app", metavar="APP", envvar=APP_VARIABLE, help="module:app, or the plain name of an app.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
KafkaOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Default: YADTQ_KAFKA or localhost:9092.")]
RedisOption = Annotated[str | None, typer.Option(metavar="URL", help="Default: YADTQ_REDIS or a local Redis.")]


def find_app(app: str, kafka: str | None, redis: str | None) -> Yadtq:
    """With a plain name, arguments are not validated here: only the worker knows the tasks."""
    if ":" in app:
        found = load_app(app)
    else:
        found = Yadtq(app)
        if _is_module(app):
            typer.echo(f"yadtq: {app!r} is taken as the name of an app; its module here is --app {app}:app", err=True)
    found.configure(kafka=kafka, redis=redis)
    return found


def _is_module(name: str) -> bool:
    """Whether there is a module of this name in the current folder: it may be what was meant."""
    return Path(f"{name}.py").is_file() or Path(name, "__init__.py").is_file()


def with_call_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with a flag for each option of a call that has one; it gets them as keyword arguments."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[rule.kind | None, typer.Option(rule.flag, help=_sentence(rule.line))],
        )
        for name in CallOptions.__annotations__
        if (rule := RULES[name]).flag is not None
    ]
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]  # as typer reads it
    return command


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def parse_argument(text: str) -> Any:
    """As JSON if it is JSON, else the text itself: `25`, `'[1, 2]'`, `hello`, `'"25"'`."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        if text.startswith("-"):
            hint = shown(json.dumps(text), 100)
            raise ConfigError(f"no option {shown(text, 100)}; for a text that begins with '-': '{hint}'") from None
        return text
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def parse_call(words: list[str], keywords: list[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """words: positional arguments. keywords: `name=value`."""
    named: dict[str, Any] = {}
    for pair in keywords:
        name, equals, value = pair.partition("=")
        if not (equals and name.isidentifier()):
            raise ConfigError(f"expected NAME=VALUE, not {shown_value(pair)}")
        named[name] = parse_argument(value)
    return tuple(parse_argument(word) for word in words), named
