"""House rules that can be counted: how long functions are, how many parameters they take, and who may touch what.

`python -m tests.support.house_rules` lists all offenders, those on the list of `tests/unit/test_layout.py` included.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RULES", "Offence", "offences"]

PACKAGE = Path(__file__).resolve().parents[2] / "yadtq"

LONGEST_FUNCTION = 60
MOST_POSITIONAL = 4
MOST_OF_A_CONSTRUCTOR = 6
#: The only file that may use what aiokafka calls private: under another release of it these names may be gone.
AIOKAFKA_LIFE = "broker/aiokafka_life.py"
#: Classes that stand for a real server, and the files that make them. All others get theirs in an `Outside`.
CONCRETE = {"KafkaBroker": "broker/kafka.py", "RedisStore": "store/redis.py"}

#: (rule, place). A place is `file:Class.function`, or the file alone.
Offence = tuple[str, str]
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def offences() -> Iterator[Offence]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        tree = ast.parse(path.read_text())
        for qualified, function, in_class in _functions(tree, ""):
            for rule in (*_length(function), *_parameters(function, in_class)):
                yield rule, f"{name}:{qualified}"
        for rule in {*_private(tree, name), *_concrete(tree, name)}:
            yield rule, name


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield prefix + child.name, child, isinstance(node, ast.ClassDef)
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _length(function: _Function) -> Iterator[str]:
    if (function.end_lineno or 0) - function.lineno + 1 > LONGEST_FUNCTION:
        yield "length"


def _parameters(function: _Function, in_class: bool) -> Iterator[str]:
    static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)
    bound = 1 if in_class and not static else 0
    positional = len(function.args.posonlyargs) + len(function.args.args) - bound
    if positional > MOST_POSITIONAL:
        yield "positional"
    if in_class and function.name == "__init__" and positional + len(function.args.kwonlyargs) > MOST_OF_A_CONSTRUCTOR:
        yield "constructor"


def _private(tree: ast.AST, name: str) -> Iterator[str]:
    """In broker/, private names of other objects are aiokafka's, but for those that the file itself defines."""
    if not name.startswith("broker/") or name == AIOKAFKA_LIFE:
        return
    own = {node.name for node in ast.walk(tree) if isinstance(node, _Function)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_own(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr) and node.attr not in own:
            yield "private"


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _concrete(tree: ast.AST, name: str) -> Iterator[str]:
    if name == "app.py" or name.startswith("cli/") or name.endswith("__main__.py"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.alias):
            used = node.id if isinstance(node, ast.Name) else node.name
            if used in CONCRETE and CONCRETE[used] != name:
                yield "concrete"


RULES = {
    "length": f"at most {LONGEST_FUNCTION} lines a function",
    "positional": f"at most {MOST_POSITIONAL} positional parameters; make the others keyword-only",
    "constructor": f"at most {MOST_OF_A_CONSTRUCTOR} parameters a constructor",
    "private": f"private names of aiokafka only in {AIOKAFKA_LIFE}",
    "concrete": "only app.py, cli/ and __main__.py name a concrete server: take an Outside",
}

if __name__ == "__main__":
    for rule, place in offences():
        print(f"{rule:12} {place}")
