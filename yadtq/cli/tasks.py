"""`yadtq submit`, `yadtq status`, `yadtq result`: one task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yadtq.cli.options import (
    AppOption,
    JsonOption,
    KafkaOption,
    RedisOption,
    find_app,
    parse_call,
    with_call_options,
)
from yadtq.cli.output import print_json
from yadtq.errors import BrokerUnavailable
from yadtq.options import CallOptions, checked
from yadtq.shown import shown

if TYPE_CHECKING:
    from yadtq.client.client import Client
    from yadtq.handle import TaskHandle

__all__ = ["result", "status", "submit"]

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The task's id, as printed by `submit`.")]
_WAIT_S = 60.0
#: A wait that is shorter than this needs no word.
_SOON_S = 1.0


@with_call_options
def submit(
    *,
    name: Annotated[str, typer.Argument(help="The task's name, for example addition.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS...", help="Read as JSON; what isn't is taken as text.")
    ] = None,
    keyword: Annotated[
        list[str] | None, typer.Option("--keyword", "-k", metavar="NAME=VALUE", help="A keyword argument.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result, and print that.")] = False,
    wait_s: Annotated[float, typer.Option("--wait-timeout", min=0, help="Seconds that --wait waits.")] = _WAIT_S,
    json: JsonOption = False,
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
            return {"id": handle.id, **({"result": await _ended(client, handle, wait_s)} if wait else {})}

    said = asyncio.run(work())
    if json:
        print_json(said)
    elif wait:
        print_json(said["result"])
    else:
        typer.echo(shown(said["id"]))


def status(
    *,
    task_id: IdArgument,
    json: JsonOption = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """Print a task's state: QUEUED, IN_PROGRESS, RETRYING, SUCCESS, FAILED or CANCELLED."""

    async def work() -> str:
        async with find_app(app, kafka, redis).client() as client:
            return (await client.status(task_id)).value

    found = asyncio.run(work())
    if json:
        print_json({"id": task_id, "status": found})
    else:
        typer.echo(found)


def result(
    *,
    task_id: IdArgument,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait for it; default: for ever.")] = None,
    json: JsonOption = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> None:
    """Print a task's result as JSON, once it has one; exit status 1 if the task failed."""

    async def work() -> Any:
        async with find_app(app, kafka, redis).client() as client:
            await client.status(
                task_id
            )  # a mistyped id is said at once, not after the time that a registration may take
            return await _ended(client, client.handle(task_id), timeout)

    found = asyncio.run(work())
    print_json({"id": task_id, "result": found} if json else found)


async def _ended(client: Client, handle: TaskHandle[Any], timeout: float | None) -> Any:
    """The result. Says on standard error what is waited for, and what to do if it takes too long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    first_s = _SOON_S if timeout is None else min(_SOON_S, timeout)
    try:
        return await handle.result(first_s)
    except TimeoutError:
        pass
    state = (await client.status(handle)).value
    hint = "" if await _is_served(client) else "; no worker of this app is alive"
    limit = "" if timeout is None else f" for up to {timeout:g} s"
    name = shown(handle.id)
    if timeout is None or timeout > first_s:
        typer.echo(
            f"yadtq: waiting{limit} for task {name}, {state}{hint}; Ctrl-C ends the wait, not the task", err=True
        )
    try:
        return await handle.result(None if timeout is None else max(0.0, timeout - (loop.time() - began)))
    except TimeoutError:
        state = (await client.status(handle)).value
        raise TimeoutError(
            f"task {name} has not ended within {timeout:g} s ({state}{hint}); it continues: yadtq result {name}"
        ) from None


async def _is_served(client: Client) -> bool:
    try:
        return bool(await client.workers())
    except BrokerUnavailable:  # only for a hint
        return True
