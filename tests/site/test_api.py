"""The reference of the Python API is complete: every public name, with a summary, its parameters, its errors, an example."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

import pytest

import yadtq
from tests.site.contents import DOCS
from yadtq import errors, sync, testing

#: Their names say nothing: a docstring lists what they may be.
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
PAGE = (DOCS / "reference" / "api.md").read_text()
ENTRIES = re.findall(r"^::: ([\w.]+)(?:\n    options:\n      members: \[(.*)\])?$", PAGE, re.MULTILINE)


def found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def described() -> list[tuple[str, Any, Any]]:
    """(path, what it is, its owner) of every function, method and property on the page."""
    entries = []
    for path, members in ENTRIES:
        thing = found(path)
        if not inspect.isclass(thing):
            entries.append((path, thing, None))
        for name in filter(None, members.split(", ")):
            member = inspect.getattr_static(thing, name)
            entries.append((f"{path}.{name}", member.fget if isinstance(member, property) else member, thing))
    return entries


def test_every_public_name_is_on_the_page():
    public = {f"yadtq.{name}" for name in yadtq.__all__}
    public |= {f"yadtq.sync.{name}" for name in sync.__all__}
    public |= {f"yadtq.testing.{name}" for name in testing.__all__}
    assert {path for path, _ in ENTRIES} == public


@pytest.mark.parametrize("path", [path for path, _ in ENTRIES])
def test_every_public_name_has_a_summary(path):
    first = (inspect.getdoc(found(path)) or "").partition("\n")[0]
    assert len(first) > 10, path


@pytest.mark.parametrize(("path", "thing", "owner"), described(), ids=[path for path, *_ in described()])
def test_every_function_says_what_it_takes(path, thing, owner):
    text = inspect.getdoc(thing) or ""
    assert text, f"{path} has no docstring"
    context = text + (inspect.getdoc(owner) or "" if owner is not None else "")
    assert not re.match(r"Raises|See ", text), f"{path}: say first what it does"
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind not in VARIABLE and name not in ("self", "function"):
            assert re.search(rf"\b{name}\b", context), f"{path}: say what {name} is"


@pytest.mark.parametrize("path", [path for path, _ in ENTRIES if path.rpartition(".")[2] not in errors.__all__])
def test_every_name_is_used_in_an_example(path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    used = {node.id for block in blocks for node in ast.walk(_parsed(block)) if isinstance(node, ast.Name)}
    name = path.rpartition(".")[2]
    instances = {"Client": "client", "TaskHandle": "handle", "Task": "addition", "World": "world", "Submit": "submit"}
    assert instances.get(name, name) in used | {"DeadLetter"}, path


def _parsed(block: str) -> ast.AST:
    return compile(block, "example", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_what_can_fail_names_its_errors():
    wanted = ["Yadtq.task", "Task.submit", "Client.submit", "Client.submit_many", "Client.status", "TaskHandle.result"]
    texts = {path: inspect.getdoc(thing) or "" for path, thing, _ in described()}
    for name in wanted:
        assert "Raises" in texts[f"yadtq.{name}"], name
