"""The documentation says what is so: links lead somewhere, code compiles, tables match the code, examples decode."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import re
from pathlib import Path

import annotated_types
import pytest

from yadtq import errors
from yadtq.settings import Settings, SupervisorSettings, WorkerSettings
from yadtq.wire import deadletter, envelope, heartbeat

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
MODELS = (Settings, WorkerSettings, SupervisorSettings)


def fences(page: Path) -> list[tuple[int, str, str]]:
    """(line, info string, text) of each fenced block."""
    found: list[tuple[int, str, str]] = []
    lines = page.read_text().splitlines()
    start = None
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
        else:
            found.append((start, lines[start - 1].removeprefix("```").strip(), "\n".join(lines[start : number - 1])))
            start = None
    assert start is None, f"{page}: the fence opened in line {start} is not closed"
    return found


def prose(page: Path) -> str:
    """Without code, in which brackets are not links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Those that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: Path) -> list[list[str]]:
    """The cells of all table rows, without heads and code marks."""
    found = []
    for line in page.read_text().splitlines():
        if line.startswith("| `"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append([cell.strip().strip("`").replace("\\|", "|") for cell in cells])
    return found


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(goal), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_compiles_and_imports_only_what_is_there(page):
    for line, info, text in fences(page):
        if info.split()[:1] != ["python"]:
            continue
        tree = compile(text, f"{page.name}:{line}", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "yadtq":
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    assert hasattr(module, name.name), f"line {line}: {node.module} has no {name.name}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_json_is_json_and_wire_examples_decode(page):
    for line, info, text in fences(page):
        language, _, kind = info.partition(" ")
        if language != "json":
            continue
        try:
            json.loads(text)
            if kind == "task":
                decoded = envelope.decode_envelope(text.encode())
                assert envelope.decode_envelope(envelope.encode_envelope(decoded)) == decoded
            elif kind == "heartbeat":
                heartbeat.Heartbeat.decode(text.encode())
            elif kind == "undecodable":
                with pytest.raises(errors.EnvelopeError):
                    envelope.decode_envelope(text.encode())
            else:
                assert not kind
        except (ValueError, errors.EnvelopeError) as error:
            pytest.fail(f"line {line}: {error}")


def test_the_wire_format_has_examples_of_every_kind():
    kinds = [info for _, info, _ in fences(ROOT / "docs" / "wire-format.md")]
    assert kinds.count("json task") >= 2
    assert kinds.count("json heartbeat") >= 1
    assert kinds.count("json undecodable") >= 1


def test_the_wire_format_names_every_field_and_header():
    table = {row[0]: row for row in rows(ROOT / "docs" / "wire-format.md")}
    for name in envelope.Envelope.__dataclass_fields__:
        assert name in table
    for header in deadletter.DEAD_LETTER_HEADERS:
        assert header in table


def test_the_heartbeat_page_names_every_field():
    table = {row[0] for row in rows(ROOT / "docs" / "reference" / "heartbeat.md")}
    assert set(heartbeat.Heartbeat.model_fields) <= table
    assert {f"running[].{name}" for name in heartbeat.RunningTask.model_fields} <= table


def shown_default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def shown_bounds(metadata: list[object]) -> str:
    signs = {
        annotated_types.Ge: ("≥", "ge"),
        annotated_types.Gt: (">", "gt"),
        annotated_types.Le: ("≤", "le"),
        annotated_types.Lt: ("<", "lt"),
        annotated_types.MinLen: ("at least", "min_length"),
    }
    return ", ".join(
        f"{signs[type(bound)][0]} {getattr(bound, signs[type(bound)][1])}" for bound in metadata if type(bound) in signs
    )


def settings_rows() -> list[list[str]]:
    """[name, variable, default, bounds] of every setting, in the order of the code."""
    return [
        [
            name,
            "in code only" if name in model.in_code else model.variable(name),
            shown_default(field.default),
            shown_bounds(field.metadata),
        ]
        for model in MODELS
        for name, field in model.model_fields.items()
    ]


def test_the_settings_page_is_complete_and_right():
    shown = rows(ROOT / "docs" / "reference" / "settings.md")
    assert [row[:4] for row in shown] == settings_rows()
    described = [field.description or "" for model in MODELS for field in model.model_fields.values()]
    for row, description in zip(shown, described, strict=True):
        assert row[4].startswith(description), f"{row[0]}: the code says {description!r}"
        assert row[4], f"{row[0]}: say what it does"


def test_the_errors_page_is_the_tree():
    """Each row: the error, the class above it."""
    shown = {row[0]: row[1] for row in rows(ROOT / "docs" / "reference" / "errors.md")}
    wanted = {name: getattr(errors, name).__bases__[0].__name__ for name in errors.__all__}
    assert shown == wanted
    assert all(hasattr(errors, parent) or hasattr(builtins, parent) for parent in shown.values())


@pytest.mark.parametrize("module", ["yadtq.worker", "yadtq.supervisor"])
def test_the_command_page_names_every_option(module, capsys):
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    with pytest.raises(SystemExit):
        importlib.import_module(f"{module}.__main__").parse(["--help"])
    section = page.partition(f"## `python -m {module}`")[2].partition("\n## ")[0]
    assert section
    for option in set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}:
        assert f"`{option}`" in section, f"{option} of {module} is not described"


def test_the_command_page_has_every_command_of_yadtq():
    import typer
    from typer.core import TyperGroup

    from yadtq.cli.root import app

    page = (ROOT / "docs" / "reference" / "cli.md").read_text().partition("## `yadtq`")[2]
    common, *sections = page.partition("\n## ")[0].split("\n### ")
    described = {section.partition("`yadtq ")[2].partition("`")[0].split()[0]: section for section in sections}
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    commands = group.commands
    assert described.keys() == commands.keys()
    for name, command in commands.items():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert f"`{option}`" in described[name] + common, f"yadtq {name} {option} is not described"


def test_the_keys_page_names_every_key_and_field():
    from yadtq.store.keys import Keys

    page = (ROOT / "docs" / "reference" / "redis-keys.md").read_text()
    keys = Keys("app")
    for attribute in Keys.__slots__:
        assert f"`{getattr(keys, attribute)}" in page, attribute
    scripts = "".join(path.read_text() for path in (ROOT / "yadtq" / "store").rglob("*.lua"))
    for name in set(re.findall(r"'([a-z])'", scripts)):
        assert f"| `{name}` |" in page, name


def test_every_decision_is_listed_and_numbered_in_order():
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(name[:4]) for name in decisions]
    assert numbers == sorted(set(numbers)), "each number once"
    index = (ROOT / "docs" / "index.md").read_text()
    for name in decisions:
        assert f"decisions/{name}" in index, f"list {name} in docs/index.md"


def test_every_page_can_be_reached_from_the_index():
    seen: set[Path] = set()
    todo = [ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", page.read_text())
        todo += [(page.parent / target).resolve() for target in targets if not target.startswith("http")]
    assert set((ROOT / "docs").rglob("*.md")) <= seen
