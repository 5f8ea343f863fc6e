"""Names, ids and messages that others chose reach the log escaped, wherever a worker writes them."""

from __future__ import annotations

import logging

import pytest

from tests.support.assembled import assembled
from tests.support.poll import eventually
from yadtq import Retry, Yadtq
from yadtq.runtime.seams import OutRecord

#: A forged log line, a cursor movement, the clipboard (OSC 52), C1, text from right to left, another line separator.
HOSTILE = "x\nERROR forged\r\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31m\u202egnihton\u2028[bold red]y[/]"
ID = HOSTILE.translate({ord(space): "-" for space in "\n\r\u2028 "})


def escaped(caplog: pytest.LogCaptureFixture) -> str:
    """All lines of the log, none of which has anything in it that acts on a terminal or looks like a line of its own."""
    assert caplog.messages
    for line in caplog.messages:
        assert line.isprintable(), line
    return "\n".join(caplog.messages)


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="yadtq")


async def test_a_task(caplog: pytest.LogCaptureFixture) -> None:
    app = Yadtq("t", lease_s=5, heartbeat_s=0.05)

    @app.task(retries=2)
    async def fails(text: str) -> None:
        raise Retry(delay=0.01) from ValueError(text)

    @app.task(name=HOSTILE, retries=1, retry_base=0.01)
    async def named(text: str) -> None:
        raise type(HOSTILE.replace("\0", ""), (Exception,), {})(text)

    async with assembled(app, unknown_task_window_s=0.05) as bench:
        ids = [
            bench.submit(name, HOSTILE, task_id=f"{ID}{name[0]}") for name in ("fails", HOSTILE, "unknown" + HOSTILE)
        ]
        bench.cluster.append(OutRecord(bench.topic, b'{"v": 1, "id": 5, "task": "\\u001b[31m\\n"}', HOSTILE.encode()))
        bench.cluster.append(OutRecord(bench.topic, HOSTILE.encode(), HOSTILE.encode()))
        bench.cluster.wake(bench.topic)
        await bench.ended(*ids)
        assert await bench.statuses(*ids) == {"FAILED"}
        await eventually(lambda: len(bench.letters()) >= 3, what="dead letters")
    assert "ERROR forged" in escaped(caplog)


async def test_a_control_message(caplog: pytest.LogCaptureFixture) -> None:
    async with assembled(Yadtq("t", lease_s=5, heartbeat_s=0.05)) as bench:
        for message in (f"dead {HOSTILE}", HOSTILE, f"dead\x1b {HOSTILE}"):
            bench.worker.parts.signals.hear(message.encode())
    assert "death certificate of x\\nERROR forged" in escaped(caplog)
