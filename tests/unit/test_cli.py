"""The words of the command line, and how errors come out: one line, the right exit status."""

from __future__ import annotations

import math
import sys

import pytest

from yadtq.__main__ import main
from yadtq.cli.options import find_app, parse_argument, parse_call
from yadtq.cli.root import run
from yadtq.cli.workers import table
from yadtq.errors import ConfigError
from yadtq.wire.heartbeat import Heartbeat


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
    for command in ("demo", "dev", "submit", "status", "result", "workers"):
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
