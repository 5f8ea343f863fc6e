"""`yadtq submit`, `yadtq status`, `yadtq result`: one task."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from yadtq.cli.options import AppOption, KafkaOption, RedisOption, find_app, parse_call, with_call_options
from yadtq.options import CallOptions, checked
from yadtq.shown import shown

if TYPE_CHECKING:
    from yadtq.handle import TaskHandle

__all__ = ["result", "status", "submit"]

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The task's id, as printed by `submit`.")]


@with_call_options
def submit(
    name: Annotated[str, typer.Argument(help="The task's name, for example addition.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS...", help="Read as JSON; what isn't is taken as text.")
    ] = None,
    keyword: Annotated[list[str] | None, typer.Option("--keyword", "-k", metavar="NAME=VALUE")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result, and print that.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object, for programs.")] = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
    **options: Any,
) -> None:
    """Submit a task; prints its id, or with --wait its result as JSON."""
    args, kwargs = parse_call(words or [], keyword or [])
    checked(options, CallOptions.__annotations__)  # before anything connects

    async def work() -> dict[str, Any]:
        async with find_app(app, kafka, redis).client() as client:
            handle: TaskHandle[Any] = await client.submit_task(name, args, kwargs, options)
            return {"id": handle.id, **({"result": await handle.result()} if wait else {})}

    said = asyncio.run(work())
    typer.echo(_json(said) if as_json else _json(said["result"]) if wait else shown(said["id"]))


def status(
    task_id: IdArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object, for programs.")] = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """Print a task's state: QUEUED, IN_PROGRESS, RETRYING, SUCCESS, FAILED or CANCELLED."""

    async def work() -> str:
        async with find_app(app, kafka, redis).client() as client:
            return (await client.status(task_id)).value

    found = asyncio.run(work())
    typer.echo(_json({"id": task_id, "status": found}) if as_json else found)


def result(
    task_id: IdArgument,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for it; default: for ever.")] = None,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """Print a task's result as JSON, once it has one; exit status 1 if the task failed."""

    async def work() -> Any:
        async with find_app(app, kafka, redis).client() as client:
            return await client.result(task_id, timeout)

    typer.echo(_json(asyncio.run(work())))


def _json(value: Any) -> str:
    # A task of a loaded app returns what its annotation says, which may be a dataclass or a model.
    text = json.dumps(to_jsonable_python(value), ensure_ascii=False)
    if text.isprintable():
        return text
    # JSON can escape every character, so control characters for the terminal are escaped without changing the value.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
