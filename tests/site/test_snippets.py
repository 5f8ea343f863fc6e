"""Every piece of Python in the documentation runs, fragments included, against the embedded stack with a worker."""

from __future__ import annotations

import re

import pytest

from tests.site.contents import DOCS, ROOT
from tests.site.snippets import parse, run_page
from tests.site.world import Servers

#: Run elsewhere, with the reason.
ELSEWHERE = {"docs/tutorial/quickstart.md": "it kills a worker process: newcomer.py follows it word for word"}
PAGES = sorted(
    page
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]
    if "```python" in page.read_text() and str(page.relative_to(ROOT)) not in ELSEWHERE
)


@pytest.fixture(scope="module")
def servers():
    pytest.importorskip("yadtq_devbroker")
    with Servers() as servers:
        yield servers


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_python_of_a_page_runs(page, servers, tmp_path):
    assert run_page(page, servers, tmp_path) >= page.read_text().count("\n```python\n")


def test_no_block_is_left_out():
    assert not [page for page in PAGES if re.search(r"<!--+ ?skip", page.read_text())]


def test_a_block_that_fails_fails_its_page(servers, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("x\n\n```python\nprint(await app.nothing())\n```\n")
    with pytest.raises(NameError, match="app"):
        run_page(page, servers, tmp_path)


def test_what_a_reader_types_is_what_runs(servers, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`tasks.py`:\n\n```python\nfrom yadtq import Yadtq\n\napp = Yadtq('shop')\n\n\n@app.task\n"
        "async def double(n: int) -> int:\n    return 2 * n\n```\n\nThen:\n\n"
        "```python\nfrom tasks import app, double\n\nasync with app.client():\n"
        "    print(await (await double.submit(21)).result(timeout=10))\n```\n\n"
        "<!-- invisible-code-block: python\nassert printed == '42\\n'\n-->\n"
    )
    assert len(list(parse(page).examples())) == 3
    assert run_page(page, servers, tmp_path) == 3
