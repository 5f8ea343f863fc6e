"""Cyclomatic complexity of Python source, per function: the work that the demo gives its workers. No I/O."""

from __future__ import annotations

import ast
from typing import NamedTuple

__all__ = ["FunctionComplexity", "functions_of"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Each of these is one more way through the function.
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.comprehension,
    ast.match_case,
)


class FunctionComplexity(NamedTuple):
    """name: qualified, as in `Class.method`."""

    name: str
    complexity: int


def functions_of(tree: ast.Module) -> list[FunctionComplexity]:
    """In the order of the source. What a nested function does is counted there, not in the one around it."""
    names: list[str] = []
    counts: list[int] = []
    # A stack of our own, as generated code nests deeper than Python can recurse. owner: index of the function, or -1.
    stack: list[tuple[ast.AST, int, str]] = [(tree, -1, "")]
    while stack:
        node, owner, scope = stack.pop()
        if isinstance(node, _FUNCTIONS):
            scope += node.name + "."
            owner = len(names)
            names.append(scope[:-1])
            counts.append(1)
        elif isinstance(node, ast.ClassDef):
            scope += node.name + "."
        elif owner >= 0:
            counts[owner] += _ways(node)
        stack.extend((child, owner, scope) for child in reversed(list(ast.iter_child_nodes(node))))
    return [FunctionComplexity(name, count) for name, count in zip(names, counts, strict=True)]


def _ways(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return isinstance(node, _BRANCHES)
