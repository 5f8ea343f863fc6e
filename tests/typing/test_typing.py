"""The types of tasks and handles: right use passes mypy, and every kind of misuse is refused where it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def findings() -> dict[str, dict[int, set[str]]]:
    """Of one run of mypy: file name, line, error codes."""
    files = [HERE / "right.py", HERE / "misuse.py"]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, dict[int, set[str]]] = {path.name: defaultdict(set) for path in files}
    for line in done.stdout.splitlines():
        error = re.match(r"(.+?):(\d+): error: .*\[([\w-]+)\]$", line)
        if error and Path(error[1]).name in found:
            found[Path(error[1]).name][int(error[2])].add(error[3])
    return found


def expected(path: Path) -> dict[int, set[str]]:
    """What the `# E:` marks of a file ask for."""
    marks = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if found := re.search(r"# E: ([\w,-]+)$", line):
            marks[number] = set(found[1].split(","))
    return marks


def test_right_use_passes(findings):
    assert findings["right.py"] == {}


def test_every_misuse_is_refused_and_nothing_else(findings):
    marks = expected(HERE / "misuse.py")
    assert len(marks) > 10
    assert findings["misuse.py"] == marks


@pytest.fixture(scope="module", params=["standard", "strict", "recommended"])
def lines_of_pyright(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """Of one run of basedpyright: the lines with errors. `standard` and `strict` are pyright's own rules."""
    config = tmp_path_factory.mktemp("pyright") / "pyrightconfig.json"
    files = [str(HERE / "right.py"), str(HERE / "misuse.py")]
    settings = {"include": files, "extraPaths": [str(ROOT)], "pythonVersion": "3.11", "pythonPlatform": "Linux"}
    config.write_text(json.dumps({**settings, "typeCheckingMode": request.param}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[int]] = defaultdict(set)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] >= 2
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name].add(each["range"]["start"]["line"] + 1)
    return found


def test_pyright_and_basedpyright_agree(lines_of_pyright: dict[str, set[int]]) -> None:
    assert lines_of_pyright["right.py"] == set()
    assert lines_of_pyright["misuse.py"] == set(expected(HERE / "misuse.py"))
