"""`llms.txt` (llmstxt.org): the documentation for programs that read text, with each page's Markdown beside its HTML."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath

from tests.site.contents import DOCS, ROOT, Section

__all__ = ["readable", "write"]

_SUMMARY: str = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["site_description"]
#: The last of the list: why things are as they are is of use to few readers.
_OPTIONAL = "Decisions"


def write(sections: list[Section], site: Path) -> None:
    """llms.txt lists the pages, llms-full.txt contains them, and the Markdown of `a/b.md` is at `a/b/index.md`."""
    lines = ["# YADTQ", "", f"> {_SUMMARY}"]
    whole = [f"# YADTQ\n\n> {_SUMMARY}\n"]
    for section in sections:
        lines += ["", f"## {'Optional' if section.title == _OPTIONAL else section.title}", ""]
        for entry in section.entries:
            goal = PurePosixPath(entry.path).with_suffix("") / "index.md"
            lines.append(f"- [{entry.title}]({goal})" + (f": {entry.note}" if entry.note else ""))
            (site / goal).parent.mkdir(parents=True, exist_ok=True)
            text = readable((DOCS / entry.path).read_text())
            (site / goal).write_text(text)
            if section.title != _OPTIONAL:
                whole.append(text)
    (site / "llms.txt").write_text("\n".join(lines) + "\n")
    (site / "llms-full.txt").write_text("\n".join(whole))


def readable(text: str) -> str:
    """Without the blocks that only the tests read."""
    return re.sub(r"^<!-- invisible-code-block.*?^-->\n\n?", "", text, flags=re.MULTILINE | re.DOTALL)
