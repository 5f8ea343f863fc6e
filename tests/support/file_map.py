"""The file map of docs/architecture.md, made from the first words of each file.

`python -m tests.support.file_map` writes it: after a new file, a move or a conflict in the table.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

__all__ = ["MAPPED", "PAGE", "mapped_rows", "render"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "yadtq"
PAGE = ROOT / "docs" / "architecture.md"
#: The table, with its head and the line below it.
MAPPED = re.compile(r"(?<=^\| file \| \|\n\|---\|---\|\n)(?:^\|.*\n)+", re.MULTILINE)


def files() -> list[str]:
    """Every file of the package that has a row, by its path in it: first those at the top, then room by room."""
    found = [
        path.relative_to(PACKAGE)
        for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua"))
        if path.name != "__init__.py" or path.parent == PACKAGE
    ]
    return [str(path) for path in sorted(found, key=lambda path: (len(path.parts) > 1, path.parts))]


def purpose(name: str) -> str:
    """The first paragraph of a docstring, or the first sentence of a Lua comment."""
    text = (PACKAGE / name).read_text()
    if name.endswith(".lua"):
        comment = " ".join(
            line.removeprefix("--").strip() for line in re.findall(r"\A(?:--.*\n)+", text)[0].splitlines()
        )
        return comment.partition(". ")[0].rstrip(".") + "."
    summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    return summary.replace("\n", " ").replace("|", "\\|")


def render() -> str:
    return "".join(f"| `{name}` | {purpose(name)} |\n" for name in files())


def mapped_rows(page: str) -> list[str]:
    """The files that have a row, in the order of the table."""
    (table,) = MAPPED.findall(page)
    return re.findall(r"^\| `([\w/.]+)` \|", table, re.MULTILINE)


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(MAPPED.sub(lambda _: render(), text, count=1))
