"""House rules that a linter doesn't know: sizes, names, docstrings, and a file map that is complete."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

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
    page = (ROOT / "docs" / "architecture.md").read_text()
    mapped = set(re.findall(r"^\| `([\w/.]+)` \|", page, re.MULTILINE))
    wanted = {
        str(path.relative_to("yadtq")) for path in MODULES if path.name != "__init__.py" or path.parent == Path("yadtq")
    }
    wanted |= {str(path.relative_to(ROOT / "yadtq")) for path in (ROOT / "yadtq").rglob("*.lua")}
    assert mapped == wanted, "the file map of docs/architecture.md has a row for each file of yadtq/, and no other"


def test_only_the_settings_read_our_environment_variables():
    """Apart from the words of a supervisor to its own children."""
    for path in MODULES:
        if path.name in ("settings.py", "__main__.py") or path.parts[1] in ("supervisor", "embedded"):
            continue
        text = (ROOT / path).read_text()
        assert not re.search(r"environ[^\n]*YADTQ_", text), f"{path} reads the environment itself"
