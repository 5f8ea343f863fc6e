"""`yadtq dead`: records that could not be run, as they were kept in Kafka."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yadtq.cli.options import AppOption, JsonOption, KafkaOption, RedisOption, find_app
from yadtq.cli.output import cell, console, print_json, seconds, table_of

if TYPE_CHECKING:
    from yadtq.wire.deadletter import DeadLetter

__all__ = ["dead"]

_TITLES = ("when (UTC)", "reason", "task", "id", "record", "detail")

dead = typer.Typer(help="Dead letters: records that could not be run.", no_args_is_help=True)


@dead.command("ls")
def ls(
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far to look back: 90, 15m, 24h or 7d.")] = "24h",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    json: JsonOption = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """List dead letters, the oldest first: when, why, and which record it was."""
    since_s = seconds(since)

    async def work() -> list[DeadLetter]:
        async with find_app(app, kafka, redis).client() as client:
            return (await client.dead_letters(since_s))[-limit:]

    found = asyncio.run(work())
    if json:
        print_json([_fields(letter) for letter in found])
    elif found:
        console().print(table_of(_TITLES, [_row(letter) for letter in found]))
    else:
        typer.echo(f"no dead letters in the last {since}", err=True)


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        cell(f"{_when(letter.at):%Y-%m-%d %H:%M:%S}"),
        cell(letter.reason),
        cell(letter.task or "-"),
        cell(letter.task_id or "-"),
        cell(f"{letter.topic}/{letter.partition}@{letter.offset}"),
        cell(letter.detail),
    )


def _fields(letter: DeadLetter) -> dict[str, Any]:
    """The value as text; what is no UTF-8 in it is replaced."""
    names = ("reason", "detail", "task_id", "task", "topic", "partition", "offset", "worker", "size")
    return {
        "at": _when(letter.at).isoformat(),
        **{name: getattr(letter, name) for name in names},
        "value": letter.value.decode(errors="replace"),
    }


def _when(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):  # any program may write a letter, with any time stamp
        return datetime.fromtimestamp(0, UTC)
