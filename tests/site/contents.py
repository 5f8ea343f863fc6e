"""The contents of the documentation, as docs/index.md lists them: the one place that says which pages there are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "ROOT", "Entry", "Section", "contents", "nav"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_SECTION = re.compile(r"^## (.+)$")
_ENTRY = re.compile(r"^(?:-|\d+\.) \[([^\]]+)\]\(([^)#]+\.md)\)(.*(?:\n  .*)*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """path: below docs/. note: what the list says of the page, beside its title."""

    title: str
    path: str
    note: str


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of page: Tutorial, How-to, Reference, Explanation, or the decisions."""

    title: str
    entries: tuple[Entry, ...]


def contents(index: str | None = None) -> list[Section]:
    """index: the text of docs/index.md."""
    text = (DOCS / "index.md").read_text() if index is None else index
    found = []
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        named = _SECTION.match(heading)
        assert named is not None
        entries = tuple(
            Entry(title, path, " ".join(note.split()).lstrip(":, ")) for title, path, note in _ENTRY.findall(body)
        )
        found.append(Section(named[1], entries))
    return found


def nav(sections: list[Section]) -> str:
    """The `nav` line of the generator's configuration: the home page, then a tab for each section."""

    def item(title: str, value: str) -> str:
        return f"{{ {json.dumps(title, ensure_ascii=False)} = {value} }}"

    tabs = [item("Home", json.dumps("index.md"))]
    for section in sections:
        pages = ", ".join(item(entry.title, json.dumps(entry.path)) for entry in section.entries)
        tabs.append(item(section.title, f"[{pages}]"))
    return f"nav = [{', '.join(tabs)}]"
