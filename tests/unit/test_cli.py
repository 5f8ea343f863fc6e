"""The words of the command line, and how errors come out: one line, the right exit status."""

from __future__ import annotations

import math
import random
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.support.outside import memory_outside
from yadtq.__main__ import main
from yadtq.cli.options import find_app, parse_argument, parse_call
from yadtq.cli.output import age, console, seconds
from yadtq.cli.root import run
from yadtq.cli.workers import table
from yadtq.client.inspection import Queue, read_dead_letters, read_queues
from yadtq.errors import ConfigError
from yadtq.runtime.seams import OutRecord
from yadtq.settings import Settings
from yadtq.supervisor import __main__ as supervisor
from yadtq.testing.doubles import ManualClock, MemoryBroker, MemoryStore
from yadtq.wire.heartbeat import Heartbeat
from yadtq.wire.names import TopicNames
from yadtq.worker import __main__ as worker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25", 25),
        ("-5", -5),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ('"25"', "25"),
        ("hello", "hello"),
        ("NaN", "NaN"),  # no JSON, though Python would read it
        ("", ""),
    ],
)
def test_an_argument_is_json_or_else_text(text, value):
    found = parse_argument(text)
    assert found == value
    assert type(found) is type(value)
    assert not (isinstance(found, float) and math.isnan(found))


def test_what_no_parser_reads_is_text():
    text = "[" * 100_000
    assert parse_argument(text) == text


def test_a_misspelt_option_is_not_taken_for_an_argument():
    with pytest.raises(ConfigError, match=r"no option --wiat; .* '\"--wiat\"'"):
        parse_argument("--wiat")
    assert parse_argument('"--wiat"') == "--wiat"


def test_a_call():
    assert parse_call(["1", "a"], ["limit=3", "text=a=b"]) == ((1, "a"), {"limit": 3, "text": "a=b"})
    for pair in ("limit", "=3", "a b=3"):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            parse_call([], [pair])


def test_an_app_by_path_or_by_name():
    assert find_app("yadtq.examples:app", "h:1", None).settings.kafka == "h:1"
    assert find_app("shop", None, "redis://h:2/0").settings.redis == "redis://h:2/0"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["bogus"], 2, "bogus"),
        (["submit"], 2, "name"),
        (["submit", "addition", "--retries", "x"], 2, "--retries"),
        (["submit", "addition", "--wiat"], 2, "no option --wiat"),
        (["status", "x", "--kafka", "nowhere"], 2, "host:port"),
        (["status", "x", "--app", "a b"], 2, "app name"),
        (["workers", "--app", "no.such:app"], 2, "no.such"),
        (["dev", "no.such:app"], 2, "no.such"),
        (["queues", "--app", "no.such:app"], 2, "no.such"),
        (["dead", "ls", "--since", "yesterday"], 2, "length of time"),
        (["demo", "--workers", "1"], 2, "at least 2 workers"),
        (["demo", "--kafka", "h:1"], 2, "both --kafka and --redis"),
        (["demo", "--app-name", "shop"], 2, "begin with 'demo'"),
        (["status", "x", "--redis", "redis://127.0.0.1:1/0"], 1, "127.0.0.1:1"),
    ],
)
def test_errors_are_one_line(words, status, said, capsys):
    assert run(words) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("yadtq: ")
    assert err.count("\n") == 1
    assert said in err


def test_help(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("demo", "dev", "submit", "status", "result", "workers", "queues", "dead", "worker", "supervisor"):
        assert f" {command} " in out


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("yadtq.cli", f"{missing}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([]) == 2
    assert capsys.readouterr().err == f"yadtq: {missing} is not installed: pip install 'yadtq[cli]'\n"


def test_the_table_of_workers():
    beat = Heartbeat(
        worker="h.slot-0:a", host="h", pid=7, phase="running", seq=1, at=0.0, partitions={"t/0": 3, "t/1": 4}
    )
    found = table([beat])
    assert [column.header for column in found.columns][:3] == ["worker", "phase", "pid"]
    assert [str(next(iter(column.cells))) for column in found.columns][:5] == ["h.slot-0:a", "running", "7", "0/0", "7"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"yadtq {version('yadtq')}\n"


@pytest.mark.parametrize("program", ["worker", "supervisor"])
def test_the_programs_have_their_own_options(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run([program, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: yadtq {program} ")


def test_one_variable_names_the_app_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("YADTQ_APP", "no.such:app")
    for words in (
        ["submit", "addition"],
        ["status", "x"],
        ["result", "x"],
        ["workers"],
        ["queues"],
        ["dead", "ls"],
        ["dev"],
    ):
        assert run(words) == 2
        assert "no.such" in capsys.readouterr().err
    assert worker.parse([]).app == supervisor.parse([]).app == "no.such:app"


def test_a_name_that_may_mean_a_module_gets_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_app("shop", None, None).name == "shop"
    assert capsys.readouterr().err == ""
    (tmp_path / "shop.py").write_text("")
    assert find_app("shop", None, None).name == "shop"
    assert "--app shop:app" in capsys.readouterr().err


def test_rows_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    name = "host-with-a-long-name.slot-12:" + "a" * 60
    console().print(table([Heartbeat(worker=name, host="h", pid=7, phase="running", seq=1, at=0.0)]))
    assert f"{name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "found"), [("90", 90), ("1.5s", 1.5), ("15m", 900), ("24h", 86_400), (" 7d ", 604_800)]
)
def test_a_length_of_time(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "m", "-1", "1w", "inf", "nan", "1e3", "9" * 12])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ConfigError, match="length of time"):
        seconds(text)


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "-"), (0.04, "0.0 s"), (59, "59 s"), (119, "119 s"), (150, "2 m"), (200_000, "2 d")]
)
def test_an_age(seconds: float | None, said: str) -> None:
    assert age(seconds) == said


async def test_queues_and_dead_letters_of_an_app() -> None:
    clock, names = ManualClock(), TopicNames("t")
    cluster = MemoryBroker(clock)
    outside = memory_outside(
        clock=clock, broker=cluster.for_app(names), store=MemoryStore(clock, random.Random(1)), settings=Settings.load()
    )
    await outside.broker.provision({"default", "mail"}, 2)
    for number in range(3):
        cluster.append(OutRecord(names.tasks("default"), b"{}", partition=number % 2))
        clock.advance(10)
    mail, default = sorted(await read_queues(outside), key=lambda queue: queue.backlog)
    assert mail == Queue("mail", 2, 0, None)
    assert default == Queue("default", 2, 3, 30.0)
    headers = [("yadtq-reason", b"crashed"), ("yadtq-offset", b"7"), ("yadtq-at", b"1e9"), ("yadtq-task", b"\xff")]
    cluster.append(OutRecord(names.dead, b"{}", headers=headers))
    (letter,) = await read_dead_letters(outside, 60)
    assert (letter.reason, letter.offset, letter.task, letter.partition) == ("crashed", 7, "\ufffd", -1)
    assert (letter.value, letter.at) == (b"{}", clock.time())
    clock.advance(61)
    assert await read_dead_letters(outside, 60) == []
