"""House rules that a linter doesn't know: sizes, names, docstrings, and a file map that is complete."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ON_UVLOOP
from tests.support import file_map
from tests.support.house_rules import RULES, Offence, offences

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "yadtq").rglob("*.py"))
LONGEST_FILE = 400
#: Names that say nothing of what is inside.
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module(path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= LONGEST_FILE, "cut it in two: one noun or one loop a file"
    assert ast.get_docstring(ast.parse(text)), "begin it with a docstring: its purpose, and what it keeps true"
    assert path.stem not in EMPTY_NAMES


def test_every_file_is_in_the_map_of_the_architecture():
    page = file_map.PAGE.read_text()
    for section in ("Rooms", "Add a feature", "Where things are", "Non-obvious"):
        assert f"\n## {section}\n" in page, f"the section {section!r} got lost"
    mapped = file_map.mapped_rows(page)
    assert len(mapped) == len(set(mapped)), "a file has two rows"
    assert set(mapped) == set(file_map.files()), "write the map again: python -m tests.support.file_map"


def test_the_prose_of_the_architecture_names_files_that_are_there():
    for name in re.findall(r"`(\w+/[\w/]+\.(?:py|lua))`", file_map.PAGE.read_text()):
        assert (ROOT / "yadtq" / name).exists() or (ROOT / name).exists(), f"{name} has moved"


def test_the_layers_are_those_of_the_decision():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    page = (ROOT / "docs" / "decisions" / "0008-layers.md").read_text()
    shown = re.findall(r"^ *(?:< )?(.+)$", page.partition("```text\n")[2].partition("```")[0], re.MULTILINE)

    def rows(lines: list[str]) -> list[list[str]]:
        return [sorted(name.strip(" ()") for name in line.split("|")) for line in lines]

    assert rows(shown) == rows(layers)[::-1]


#: Offences against tests/support/house_rules.py that are known, each with its reason. It only gets shorter.
KNOWN: dict[Offence, str] = {
    ("positional", "errors.py:TaskFailed.__init__"): "an exception is unpickled from its args, by position",
    ("positional", "testing/sim/loop.py:_Handle.__init__"): "made a million times a second, as asyncio.Handle is",
}


@pytest.mark.parametrize("rule", RULES)
def test_house_rule(rule):
    found = {place for broken, place in offences() if broken == rule}
    known = {place for broken, place in KNOWN if broken == rule}
    assert found <= known, RULES[rule]
    assert known <= found, "kept by now: take it from the list"


def test_only_the_settings_read_our_environment_variables():
    """Apart from the words of a supervisor to its own children."""
    for path in MODULES:
        if path.name in ("environment.py", "__main__.py") or path.parts[1] in ("supervisor", "embedded"):
            continue
        text = (ROOT / path).read_text()
        assert not re.search(r"environ[^\n]*YADTQ_", text), f"{path} reads the environment itself"


def test_what_runs_on_uvloop_is_there():
    assert {f"{name}.py" for name in ON_UVLOOP} <= {path.name for path in Path(__file__).parent.glob("test_*.py")}
