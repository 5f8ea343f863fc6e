"""A line of the log is ours, whatever is said in it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from yadtq.runtime.logs import OneLine

FORGED = "no\n2026-11-25 ERROR yadtq.worker: all is lost \x1b[2J\u202e"


def line(message: str, *args: Any, **more: Any) -> str:
    record = logging.LogRecord("yadtq.worker", logging.INFO, __file__, 1, message, args, more.get("exc_info"))
    record.stack_info = more.get("stack_info")
    return OneLine("%(levelname)s %(name)s: %(message)s").format(record)


def test_a_plain_message_stays_as_it_is() -> None:
    assert line("task %s: Grüße", "a") == "INFO yadtq.worker: task a: Grüße"


@pytest.mark.parametrize("message", [FORGED, "%s"])
def test_what_is_forged_is_seen_to_be_no_line_of_ours(message: str) -> None:
    said = line(message, *([FORGED] if message == "%s" else [])).split("\n")
    assert all(part.isprintable() for part in said)
    assert said[0].startswith("INFO yadtq.worker: no")
    assert all(part.startswith("| ") for part in said[1:])


def test_a_traceback_too() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        said = line("failed", exc_info=sys.exc_info(), stack_info=f"Stack\n{FORGED}").split("\n")
    assert "| Traceback (most recent call last):" in said
    assert all(part.isprintable() for part in said)
    assert all(part.startswith("| ") for part in said[1:])
