"""Builds the site strictly: a warning, a link that leads nowhere or a page that is not listed ends it."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.site import llms
from tests.site.contents import DOCS, ROOT, contents, nav

__all__ = ["SITE", "ZENSICAL", "BuildFailed", "broken_links", "build", "unlisted"]

BUILD = ROOT / "build"
SITE = BUILD / "site"
#: In an environment of its own (`make docs`): the generator's packages are nothing that the tests need.
ZENSICAL = ROOT / ".cache" / "docs" / "bin" / "zensical"


class BuildFailed(Exception):
    """One line for each thing that is wrong."""


def unlisted() -> set[str]:
    """Pages that docs/index.md does not list, and listed ones that are not there."""
    listed = {entry.path for section in contents() for entry in section.entries}
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    return (there - {"index.md"}) ^ listed


def build(zensical: Path = ZENSICAL) -> Path:
    """The folder of the site. Raises `BuildFailed`."""
    if missing := unlisted():
        raise BuildFailed(f"not both in docs/ and in docs/index.md: {', '.join(sorted(missing))}")
    sections = contents()
    BUILD.mkdir(exist_ok=True)
    config = BUILD / "zensical.toml"
    head, project, rest = (ROOT / "zensical.toml").read_text().partition("[project]\n")
    config.write_text(f"{head}{project}{nav(sections)}\n{rest}")
    for old in (SITE, BUILD / "docs"):
        shutil.rmtree(old, ignore_errors=True)  # else a page that is gone would stay
    shutil.copytree(DOCS, BUILD / "docs")
    run = subprocess.run(
        [zensical, "build", "--strict", "--clean", "--config-file", config],
        cwd=BUILD,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if run.returncode != 0 or not (SITE / "index.html").exists():
        said = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
        raise BuildFailed(said.partition("Traceback (most recent call last)")[0].strip())
    llms.write(sections, SITE)
    if broken := broken_links(SITE):
        raise BuildFailed("\n".join(broken))
    return SITE


class _Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.anchors.add(value)
            elif value and ((name == "href" and tag == "a") or (name == "src" and tag in ("img", "script"))):
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Links within the site that lead to no file or to no heading. Links to other servers are not followed."""
    pages = {path: _Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.exists():
                broken.append(f"{path.relative_to(site)}: {link}: no such page")
            elif parts.fragment and goal in pages and unquote(parts.fragment) not in pages[goal].anchors | {"__skip"}:
                broken.append(f"{path.relative_to(site)}: {link}: no such heading")
    return broken
