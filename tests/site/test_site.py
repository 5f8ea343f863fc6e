"""The documentation site: its contents, its build, its versions."""

from __future__ import annotations

import json
import os

import pytest

from tests.site import build as building
from tests.site import llms
from tests.site.contents import ROOT, contents, nav
from tests.site.versions import publish

KINDS = {"Tutorial": "tutorial/", "How-to": "how-to/"}


def test_every_page_is_listed_and_every_listed_page_is_there():
    assert building.unlisted() == set()


def test_the_kinds_of_page_are_kept_apart():
    sections = {section.title: [entry.path for entry in section.entries] for section in contents()}
    assert list(sections) == ["Tutorial", "How-to", "Reference", "Explanation", "Decisions"]
    for title, folder in KINDS.items():
        assert all(path.startswith(folder) for path in sections[title]), title
        assert not [path for other in sections if other != title for path in sections[other] if path.startswith(folder)]


def test_contents_are_read_from_the_list():
    how_to = "## How-to\n\n- [A b](how-to/a.md): what\n  it says\n- [C](c.md), and more\n"
    found = contents(f"# X\n\n{how_to}\n## Decisions\n\n1. [D](d.md)\n")
    assert [(section.title, [(e.title, e.path, e.note) for e in section.entries]) for section in found] == [
        ("How-to", [("A b", "how-to/a.md", "what it says"), ("C", "c.md", "and more")]),
        ("Decisions", [("D", "d.md", "")]),
    ]
    assert nav(found) == (
        'nav = [{ "Home" = "index.md" }, { "How-to" = [{ "A b" = "how-to/a.md" }, { "C" = "c.md" }] }, '
        '{ "Decisions" = [{ "D" = "d.md" }] }]'
    )


def test_llms_txt_lists_every_page_with_its_markdown(tmp_path):
    llms.write(contents(), tmp_path)
    listed = (tmp_path / "llms.txt").read_text()
    assert listed.startswith("# YADTQ\n\n> ")
    for section in contents():
        for entry in section.entries:
            goal = entry.path.removesuffix(".md") + "/index.md"
            assert f"]({goal})" in listed
            copy = (tmp_path / goal).read_text()
            assert copy == llms.readable((ROOT / "docs" / entry.path).read_text())
            assert "invisible-code-block" not in copy
    assert "Kafka" in (tmp_path / "llms-full.txt").read_text()


def test_versions_live_side_by_side_and_one_is_the_latest(tmp_path):
    site, into = tmp_path / "site", tmp_path / "public"
    site.mkdir()

    def put(version, *, latest):
        (site / "index.html").write_text(version)
        publish(site, into, version, latest=latest)
        return json.loads((into / "versions.json").read_text())

    put("0.2", latest=True)
    put("0.10", latest=True)
    put("dev", latest=False)
    listing = put("0.2", latest=False)  # a correction of an old version

    assert [(each["version"], each["aliases"]) for each in listing] == [("dev", []), ("0.10", ["latest"]), ("0.2", [])]
    assert (into / "latest" / "index.html").read_text() == "0.10"
    assert (into / "0.2" / "index.html").read_text() == "0.2"
    assert "url=latest/" in (into / "index.html").read_text()


def test_links_of_the_built_pages_are_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="a/#here">x</a><a href="a/#gone">x</a><a href="b/">x</a><img src="c.svg">'
    )
    (tmp_path / "a" / "index.html").write_text(
        '<h2 id="here">x</h2><a href="https://elsewhere/">x</a><a href="../">x</a>'
    )
    assert building.broken_links(tmp_path) == [
        "index.html: a/#gone: no such heading",
        "index.html: b/: no such page",
        "index.html: c.svg: no such page",
    ]


@pytest.fixture(scope="module")
def site():
    if not building.ZENSICAL.exists():
        if os.environ.get("CI"):
            pytest.fail("the documentation's generator is missing: make docs")
        pytest.skip("the documentation's generator is not installed: make docs")
    return building.build()


def test_the_site_builds_without_a_warning_and_has_every_page(site):
    for section in contents():
        for entry in section.entries:
            assert (site / entry.path.removesuffix(".md") / "index.html").exists(), entry.path


def test_the_site_has_search_dark_mode_and_a_menu_of_versions(site):
    page = (site / "index.html").read_text()
    assert "data-md-color-scheme=slate" in page or 'data-md-color-scheme="slate"' in page
    assert '"provider":"mike"' in page.replace(" ", "")
    assert len(json.loads((site / "search.json").read_text())["items"]) > 100


def test_the_site_loads_nothing_from_other_servers(site):
    assert "fonts.googleapis.com" not in (site / "index.html").read_text()
