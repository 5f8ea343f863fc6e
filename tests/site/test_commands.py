"""Commands in the documentation are accepted by the programs that they call: each option exists, each value has its type."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest

from tests.site.contents import DOCS, ROOT

PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "examples").rglob("*.md"))]
_BLOCK = re.compile(r"^```(bash|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every call of `yadtq`, of a worker and of a supervisor."""
    found = []
    for page in PAGES:
        for kind, block in _BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = (
                    shlex.split(line.removeprefix("$ ").partition(" #")[0], posix=True) if _calls(line, kind) else []
                )
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words[:1] == ["yadtq"] or words[:2] == ["python", "-m"]:
                    found.append((str(page.relative_to(ROOT)), words))
    return found


def _calls(line: str, kind: str) -> bool:
    prompt = "" if kind == "bash" else r"\$ "
    return re.match(prompt + r"([A-Z_]+=\S+ +)*(yadtq |python -m yadtq\.(worker|supervisor))", line) is not None


@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=[f"{page}: {' '.join(words)}" for page, words in commands()]
)
def test_a_command_in_a_page_is_accepted(page, words):
    if words[0] == "python":
        if "..." not in words and not any(word.startswith("[") for word in words):
            importlib.import_module(f"{words[2]}.__main__").parse(words[3:])
        return
    import typer

    from yadtq.cli.root import app

    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if rest and not hasattr(command, "commands"):
        command.make_context("yadtq", rest)


def test_there_are_commands_to_check():
    assert len(commands()) > 15


def test_every_variable_in_a_page_is_a_setting():
    pages = [*PAGES, ROOT / "examples" / "orders" / "compose.yaml"]
    settings = (DOCS / "reference" / "settings.md").read_text()
    known = set(re.findall(r"`(YADTQ_\w+)`", settings)) | {"YADTQ_APP"}
    for page in pages:
        if page.name == "settings.md":  # compared with the code by tests/unit/test_docs.py; shows a wrong one, too
            continue
        for name in set(re.findall(r"\bYADTQ_(?!TEST_)[A-Z_]*[A-Z]\b(?![_*])", page.read_text())):
            assert name.removesuffix("_FILE") in known or name in known, f"{page.relative_to(ROOT)}: {name}"
