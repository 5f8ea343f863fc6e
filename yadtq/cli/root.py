"""The command `yadtq`: its subcommands, and the one-line message for every error."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from yadtq.cli import check, dead, demo, dev, processes, queues, tasks, workers
from yadtq.errors import ConfigError, YadtqError
from yadtq.shown import shown

__all__ = ["run"]

_INTERRUPTED = 130
#: Characters of an error's line, which may contain the message of a failed task.
_LONGEST = 4_000

app = typer.Typer(
    name="yadtq",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("check")(check.check)
app.command("demo")(demo.demo)
app.command("dev")(dev.dev)
app.command("submit", context_settings={"ignore_unknown_options": True})(tasks.submit)
app.command("status")(tasks.status)
app.command("result")(tasks.result)
app.command("workers")(workers.workers)
app.command("queues")(queues.queues)
app.add_typer(dead.dead, name="dead")
app.command("worker", context_settings=processes.AS_IT_IS)(processes.worker)
app.command("supervisor", context_settings=processes.AS_IT_IS)(processes.supervisor)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yadtq {version('yadtq')}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """An asyncio-native distributed task queue: Kafka carries every task, Redis answers every question about it.

    First steps: `yadtq dev tasks:app` in one terminal, `yadtq submit addition 1 2 --wait` in another. Addresses and
    passwords are read from YADTQ_* variables; YADTQ_APP is the app of every command.
    """


def run(argv: list[str] | None = None) -> int:
    """Returns the exit status; says what is wrong in one line on standard error."""
    try:
        status = app(args=argv, standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except (YadtqError, TimeoutError) as error:
        print(f"yadtq: {shown(' '.join(str(error).split()), _LONGEST)}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        # An error of click, which typer vendors in a private module since 0.2x: recognised by its attributes.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():  # none: no command was given, and the help has been printed
            print(f"yadtq: {shown(message, _LONGEST)} (yadtq --help)", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0
