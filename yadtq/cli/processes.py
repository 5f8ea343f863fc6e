"""`yadtq worker` and `yadtq supervisor`: the same as `python -m yadtq.worker` and `python -m yadtq.supervisor`."""

from __future__ import annotations

import logging

import typer  # noqa: TC002 - typer reads annotations at run time

__all__ = ["AS_IT_IS", "supervisor", "worker"]

#: All words, `--help` too, go to the program itself: its options are declared there.
AS_IT_IS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": list[str]()}


def worker(context: typer.Context) -> int:
    """Run one worker process: `yadtq worker tasks:app --concurrency 50`."""
    from yadtq.worker.__main__ import main

    _log_as_a_service()
    return main(context.args, program="yadtq worker")


def supervisor(context: typer.Context) -> int:
    """Keep several worker processes alive: `yadtq supervisor tasks:app --workers 4`."""
    from yadtq.supervisor.__main__ import main

    _log_as_a_service()
    return main(context.args, program="yadtq supervisor")


def _log_as_a_service() -> None:
    # `yadtq` logs briefly, for people at a terminal; these two set up a log of their own.
    for name in ("aiokafka", "yadtq.store"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    for handler in logging.getLogger().handlers[:]:
        logging.getLogger().removeHandler(handler)
