"""Private names of aiokafka stand in one file, so that another version of it is read against one page."""

from __future__ import annotations

import ast
from pathlib import Path

BROKER = Path(__file__).resolve().parents[2] / "yadtq" / "broker"
LIFE = "aiokafka_life.py"


def private_uses(path: Path) -> list[str]:
    """Attributes with an underscore of anything but ourselves and our own classes."""
    tree = ast.parse(path.read_text())
    return [
        f"{path.name}:{node.lineno} .{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


def test_only_one_file_touches_them() -> None:
    found = [use for path in sorted(BROKER.glob("*.py")) if path.name != LIFE for use in private_uses(path)]
    ours = [
        use
        for use in found
        if use.startswith("consumer.py") and use.split(".")[-1] in ("_watermarks", "_commit_within", "_watch")
    ]
    assert sorted(set(found) - set(ours)) == []


def test_the_one_file_does() -> None:
    assert private_uses(BROKER / LIFE)
