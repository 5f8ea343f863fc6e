"""Several versions of the documentation in one folder, in the form of `mike`: a folder each, and versions.json.

mike itself drives MkDocs only (docs/decisions has the reasons); the menu in the page reads the same file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

__all__ = ["publish"]

_REDIRECT = """<!doctype html>
<meta charset="utf-8">
<title>YADTQ</title>
<link rel="canonical" href="{goal}/">
<meta http-equiv="refresh" content="0; url={goal}/">
<a href="{goal}/">Documentation</a>
"""


def publish(site: Path, into: Path, version: str, *, latest: bool) -> list[dict[str, Any]]:
    """Put a built site into a folder of versions; a version that is there is replaced. The list of versions, newest first.

    latest: this version is the one that `latest/` and the front page lead to.
    """
    into.mkdir(parents=True, exist_ok=True)
    listing = into / "versions.json"
    known: list[dict[str, Any]] = json.loads(listing.read_text()) if listing.exists() else []
    old = next((each for each in known if each["version"] == version), None)
    aliases = ["latest"] if latest or (old is not None and "latest" in old["aliases"]) else []
    if aliases:
        for each in known:
            each["aliases"] = []
    rest = [each for each in known if each["version"] != version]
    rest.append({"version": version, "title": version, "aliases": aliases})
    rest.sort(key=_age, reverse=True)
    for name in [version, *aliases]:
        shutil.rmtree(into / name, ignore_errors=True)
        shutil.copytree(site, into / name)
    goal = "latest" if any(each["aliases"] for each in rest) else version
    (into / "index.html").write_text(_REDIRECT.format(goal=goal))
    listing.write_text(json.dumps(rest, indent=2) + "\n")
    return rest


def _age(entry: dict[str, Any]) -> tuple[bool, tuple[int, ...]]:
    """Names that are no numbers (`dev`) are newer than all releases."""
    parts = entry["version"].split(".")
    numeric = all(part.isdigit() for part in parts)
    return not numeric, tuple(map(int, parts)) if numeric else ()
