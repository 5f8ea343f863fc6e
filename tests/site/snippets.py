"""Runs the Python of a page, block after block, as a reader would who types it in.

Sybil finds the blocks. What a page leaves out stands in a block that no reader sees:

    <!-- invisible-code-block: python
    client = await connected(app)
    -->

Such a block may also say what must be true by then; `printed` is what the block before has printed. A block may await at its
top level. One that begins with a file name (`# shop/tasks.py`), or that the text introduces by one (`tasks.py`:), is a
module, which later blocks can import.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import re
import sys
from typing import TYPE_CHECKING, Any

from sybil import Sybil
from sybil.evaluators.python import pad
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from tests.site.world import PageWorld

if TYPE_CHECKING:
    from pathlib import Path

    from sybil import Document, Example
    from sybil.example import Example as SybilExample

    from tests.site.world import Servers
    from yadtq import Client, Yadtq

__all__ = ["parse", "run_page"]

_FILE = re.compile(r"^`(?P<path>[\w/]+\.py)`(?:[^\n]*):\n+\Z", re.MULTILINE)
_FIRST_LINE = re.compile(r"\A# (?P<path>[\w/]+\.py)$", re.MULTILINE)
_DEADLINE_S = 30


def parse(page: Path) -> Document:
    return _sybil(lambda example: None).parse(page)


def _sybil(evaluate: Any) -> Sybil:
    return Sybil([CodeBlockParser("python", evaluate), SkipParser()], encoding="utf-8")


def run_page(page: Path, servers: Servers, folder: Path) -> int:
    """How many blocks were run. folder: an empty one, for the page's modules. Raises what a block raises."""
    with PageWorld(servers), _Reader(folder) as reader:
        examples = list(_sybil(reader.evaluate).parse(page).examples())
        for example in examples:
            example.evaluate()
    return len(examples)


class _Reader:
    """Has one loop for the whole page, as a notebook does, and one set of names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "page", "printed": "", "connected": self._connected}
        self._clients = contextlib.AsyncExitStack()
        self._runner = asyncio.Runner()

    def __enter__(self) -> _Reader:
        sys.path.insert(0, str(self._folder))
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        sys.path.remove(str(self._folder))
        try:
            self._runner.run(asyncio.wait_for(self._clients.aclose(), _DEADLINE_S))
        finally:
            self._runner.close()

    async def _connected(self, app: Yadtq) -> Client:
        """A client that stays open for the rest of the page."""
        return await self._clients.enter_async_context(app.client())

    def evaluate(self, example: SybilExample) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            before = example.document.text[: example.start]
            if named := _FIRST_LINE.match(example.parsed) or _FILE.search(before):
                self._import(named["path"], example)
            else:
                self._run(example)
        self._names["printed"] = out.getvalue()

    def _import(self, path: str, example: Example) -> None:
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(example.parsed)
        importlib.invalidate_caches()
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = importlib.import_module(name)
        module.__page__ = True  # type: ignore[attr-defined]
        while "." in name:
            name = name.rpartition(".")[0]
            sys.modules[name].__page__ = True  # type: ignore[attr-defined]

    def _run(self, example: Example) -> None:
        source = pad(example.parsed, example.line + example.parsed.line_offset)
        code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            self._runner.run(asyncio.wait_for(eval(code, self._names), _DEADLINE_S))
        else:
            exec(code, self._names)
