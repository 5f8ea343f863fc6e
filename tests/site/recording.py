"""Records a real run of `yadtq demo`, and draws it as an animated SVG.

    python -m tests.site.recording docs/demo.svg

The demo runs in a pseudo-terminal; pyte, a terminal emulator, says what is on the screen after each piece of output. Each
screen is shown for as long as it was there, the last one longer.
"""

from __future__ import annotations

import html
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pyte

__all__ = ["Frame", "draw", "record"]

COLUMNS, ROWS = 92, 26
_LEAST_S, _LAST_S, _DEADLINE_S = 0.15, 6.0, 120
_CHARACTER, _LINE, _MARGIN = 7.8, 17, 12
_COLOURS = {
    "green": "#7ee787",
    "red": "#ff7b72",
    "yellow": "#e3b341",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "cyan": "#76e3ea",
}
_COLOURS |= {"magenta": "#d2a8ff", "default": "#c9d1d9"}

#: Runs of one colour in a line: (column, colour, bold, text).
Line = tuple[tuple[int, str, bool, str], ...]
#: When a screen came up, and what is on it.
Frame = tuple[float, tuple[Line, ...]]


def record(command: list[str]) -> list[Frame]:
    """All screens, with the seconds since the start."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True)
    os.close(slave)
    frames: list[Frame] = []
    start = time.monotonic()
    while time.monotonic() < start + _DEADLINE_S:
        if not select.select([master], [], [], 0.02)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        stream.feed(piece)
        at, now = time.monotonic() - start, tuple(_line(screen, row) for row in range(ROWS))
        if frames and at - frames[-1][0] < _LEAST_S:
            frames[-1] = (frames[-1][0], now)
        elif not frames or frames[-1][1] != now:
            frames.append((at, now))
    os.close(master)
    if process.wait(10) != 0:
        raise RuntimeError(f"{command}: exit status {process.returncode}")
    return frames


def _line(screen: pyte.Screen, row: int) -> Line:
    runs: list[tuple[int, str, bool, str]] = []
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        colour = cell.fg if cell.fg in _COLOURS else "default"
        if runs and runs[-1][1:3] == (colour, cell.bold):
            runs[-1] = (*runs[-1][:3], runs[-1][3] + cell.data)
        else:
            runs.append((column, colour, cell.bold, cell.data))
    return tuple(run for run in runs if run[3].strip())


def draw(frames: list[Frame], title: str) -> str:
    """SVG without scripts, so that it moves inside an <img>. It repeats for ever."""
    total = frames[-1][0] + _LAST_S
    width, height = round(COLUMNS * _CHARACTER + 2 * _MARGIN), ROWS * _LINE + 2 * _MARGIN
    lines = sorted({line for _, screen in frames for line in screen if line})
    names = {line: f"l{number}" for number, line in enumerate(lines)}
    defs = "".join(f'<g id="{name}">{_text(line)}</g>' for line, name in names.items())
    css, groups = [], []
    for number, (at, screen) in enumerate(frames):
        end = frames[number + 1][0] if number + 1 < len(frames) else total
        first, last = 100 * at / total if number else 0.0, 100 * end / total
        css.append(
            f"@keyframes k{number}{{0%,{max(first - 0.001, 0):.3f}%{{opacity:{int(not number)}}}"
            f"{first:.3f}%,{last - 0.001:.3f}%{{opacity:1}}{last:.3f}%,100%{{opacity:{int(number + 1 == len(frames))}}}}}"
            f".f{number}{{animation:k{number} {total:.2f}s step-end infinite}}"
        )
        used = "".join(
            f'<use href="#{names[line]}" y="{row * _LINE + _MARGIN + 13}"/>' for row, line in enumerate(screen) if line
        )
        groups.append(f'<g class="f{number}" opacity="{int(number + 1 == len(frames))}">{used}</g>')
    fills = "".join(f".{name}{{fill:{colour}}}" for name, colour in _COLOURS.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{html.escape(title)}</title>"
        "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}.b{font-weight:bold}"
        f'{fills}{"".join(css)}</style><defs>{defs}</defs><rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>'
        f"{''.join(groups)}</svg>\n"
    )


def _text(line: Line) -> str:
    return "".join(
        f'<text x="{_MARGIN + column * _CHARACTER:.1f}" class="{colour}{" b" * bold}" '
        f'textLength="{len(text) * _CHARACTER:.1f}" xml:space="preserve">{html.escape(text)}</text>'
        for column, colour, bold, text in line
    )


def main() -> None:
    goal = Path(sys.argv[1])
    frames = record([str(Path(sys.executable).parent / "yadtq"), "demo"])
    goal.write_text(
        draw(frames, "yadtq demo: a worker is killed half-way, and its successor runs the interrupted tasks again")
    )
    print(f"{goal}: {len(frames)} screens, {frames[-1][0]:.1f} s, {goal.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
