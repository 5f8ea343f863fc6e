"""`yadtq check`: whether everything is as it has to be, line by line."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from yadtq.cli.looks import look
from yadtq.cli.options import AppOption, JsonOption, KafkaOption, RedisOption, find_app
from yadtq.cli.output import print_json
from yadtq.cli.verdicts import status_of

__all__ = ["check"]

_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


def check(
    *,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds for each look.")] = 10.0,
    json: JsonOption = False,
    app: AppOption = "default",
    kafka: KafkaOption = None,
    redis: RedisOption = None,
) -> int:
    """Look at settings, servers, versions, rights, topics, clocks and workers, and say for each what to do.

    Exit status: 0 all is well (warnings allowed), 1 something does not work, 2 wrong settings or rights, 69 a server
    can't be reached.
    """
    lines = asyncio.run(look(lambda: find_app(app, kafka, redis), timeout))
    status = status_of(lines)
    if json:
        checks = [{"what": line.what, "state": line.state, "text": line.text} for line in lines]
        print_json({"ok": status == 0, "checks": checks})
    else:
        for line in lines:
            typer.echo(f"{_MARKS[line.state]}  {line.what}: {line.text}")
    return status
