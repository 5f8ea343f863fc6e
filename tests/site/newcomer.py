"""Plays the newcomer: packages into an empty environment, then the quickstart word for word, with its output compared.

    python -m tests.site.newcomer

Files are those that the page introduces by their names. Commands are the lines that begin with `$`; what stands below
is what they print, perhaps among other lines. Numbers, ids and host names differ; `...` is anything. A command that
does not end by itself runs on in the background. Exit status 1, with both texts, if something is not as the page says.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.site.contents import DOCS
from tests.site.packages import build_packages, fresh_environment, problems

__all__ = ["Step", "matches", "steps"]

QUICKSTART = DOCS / "tutorial" / "quickstart.md"
_DEADLINE_S = 60
_BLOCK = re.compile(
    r"^(?:`(?P<file>[\w/]+\.py)`[^\n]*:\n+)?```(?P<kind>python|text|bash)\n(?P<body>.*?)^```$", re.M | re.S
)
#: As the page has them, and what may be there instead.
_VARIES = (
    (r"\.\.\.", ".*"),
    (r"\b[\w-]+\.shop\.slot", r"\S+\.shop\.slot"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "[0-9a-f]+"),
    (r"\d+(?:\.\d+)*", r"[\d.]+"),
    (r"redis://\S+", r"redis://\S+"),
)


class Different(Exception):
    """The page says something else than what happens."""


@dataclass(frozen=True, slots=True)
class Step:
    """file: to be written with this text. command: to be run. text: what is expected, for a command."""

    text: str
    file: str = ""
    command: str = ""


def steps(page: str) -> list[Step]:
    """In the order of the page. Blocks of shell commands without output are the installation, which is done already."""
    found = []
    for block in _BLOCK.finditer(page):
        if block["kind"] == "python" and block["file"]:
            found.append(Step(block["body"], file=block["file"]))
        elif block["kind"] == "text":
            for part in re.split(r"^(?=\$ )", block["body"], flags=re.MULTILINE):
                command, _, text = part.partition("\n") if part.startswith("$ ") else ("", "", part)
                if part:
                    found.append(Step(text, command=command.removeprefix("$ ")))
    return found


def _pattern(line: str) -> re.Pattern[str]:
    marks = "|".join(f"({pattern})" for pattern, _ in _VARIES)
    out, end = "", 0
    for match in re.finditer(marks, line):
        out += re.escape(line[end : match.start()]) + _VARIES[(match.lastindex or 1) - 1][1]
        end = match.end()
    return re.compile(out + re.escape(line[end:]))


def matches(expected: str, printed: str) -> bool:
    """Every line of the page is a line of the output. Lines of several processes may come in another order."""
    lines = [line.rstrip() for line in printed.splitlines()]
    return all(any(_pattern(line).fullmatch(each) for each in lines) for line in expected.splitlines())


@dataclass(slots=True)
class Newcomer:
    """bin: of the fresh environment. folder: where the files go."""

    bin: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    running: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def follow(self, step: Step) -> None:
        if step.file:
            (self.folder / step.file).write_text(step.text)
        elif step.command:
            self._type(step)
        else:
            self._await(step.text, "the programs in the background", [log for _, log in self.running])

    def _type(self, step: Step) -> None:
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}"
        words = shlex.split(step.command)
        words[0] = str(self.bin / words[0])
        with log.open("wb") as out:
            process = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.running.append((process, log))
        self._await(step.text, step.command, [log], process)
        for name, value in re.findall(r"^export (\w+)=(\S+)$", log.read_text(), re.MULTILINE):
            self.environment[name] = value  # as the page says: paste these lines into the other terminals

    def _await(
        self, expected: str, what: str, logs: list[Path], process: subprocess.Popen[bytes] | None = None
    ) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            ended = process is not None and process.poll() is not None
            printed = "".join(log.read_text() for log in logs)
            if matches(expected, printed) and (ended or expected):
                return
            if ended or time.monotonic() > deadline:
                raise Different(f"$ {what}\n--- the page says\n{expected}\n--- it printed\n{printed}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ctrl-C in each terminal, the last one first: the servers outlive the workers."""
        for process, log in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                if process.wait(_DEADLINE_S) not in (0, 130, -signal.SIGINT):
                    raise Different(f"Ctrl-C: exit status {process.returncode}\n{log.read_text()}")

    def kill(self) -> None:
        for process, _ in self.running:
            if process.poll() is None:
                process.kill()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="newcomer-") as temporary:
        folder = Path(temporary)
        packages = build_packages(folder / "dist")
        if wrong := problems(packages):
            print("\n".join(wrong), file=sys.stderr)
            return 1
        bin = fresh_environment(folder / "venv", packages)
        home = folder / "work"
        home.mkdir()
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{bin}{os.pathsep}{os.environ['PATH']}"
        newcomer = Newcomer(bin, home, {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1"})
        started = time.monotonic()
        try:
            for step in steps(QUICKSTART.read_text()):
                print("newcomer:", step.command or step.file or "looks at the other terminals", flush=True)
                newcomer.follow(step)
            newcomer.stop()
        except Different as different:
            print(different, file=sys.stderr)
            return 1
        finally:
            newcomer.kill()
        print(f"newcomer: the quickstart is as it says, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
