"""Draws the architecture: `python -m tests.site.picture docs/architecture.svg`. The source of the picture is here."""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["draw"]


@dataclass(frozen=True, slots=True)
class Box:
    """x, y, width, height in units of the picture. kind: its colour."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one point to another, with a word beside it."""

    x1: int
    y1: int
    x2: int
    y2: int
    word: str
    at: tuple[int, int]


BOXES = (
    Box(20, 110, 150, 120, "program", "Client", ("your program:", "submit, status,", "result")),
    Box(
        290,
        20,
        220,
        120,
        "server",
        "Kafka",
        ("every task, whole,", "until it is finished;", "heartbeats, dead letters"),
    ),
    Box(290, 220, 220, 120, "server", "Redis", ("state, lease, attempt,", "result, waiters:", "can be rebuilt")),
    Box(680, 110, 200, 60, "program", "Worker", ("runs many tasks at once",)),
    Box(680, 190, 200, 60, "program", "Worker", ("runs many tasks at once",)),
    Box(680, 20, 200, 60, "program", "Supervisor", ("keeps workers alive",)),
)
ARROWS = (
    Arrow(170, 140, 290, 90, "submit", (186, 96)),
    Arrow(290, 270, 170, 210, "result, by push", (172, 272)),
    Arrow(510, 90, 680, 135, "records", (590, 98)),
    Arrow(680, 150, 510, 250, "claim, renew, finish", (515, 180)),
    Arrow(680, 235, 510, 300, "", (0, 0)),
    Arrow(680, 50, 510, 50, "watches heartbeats", (535, 42)),
    Arrow(800, 80, 800, 110, "", (0, 0)),
)
_STYLE = """
text{font:14px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600;font-size:16px}.w{font-size:13px;fill:#59636e}
.page{fill:#fff}.program{fill:#ddf4ff;stroke:#0969da}.server{fill:#fff8c5;stroke:#9a6700}.a{stroke:#59636e;fill:none}.h{fill:#59636e}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.w{fill:#9198a1}.page{fill:#0d1117}
.program{fill:#0c2d6b;stroke:#58a6ff}.server{fill:#4b2900;stroke:#d29922}.a{stroke:#9198a1}.h{fill:#9198a1}}
"""


def draw() -> str:
    """SVG in light and dark colours, on a ground of its own, so that it can be read on any page."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 360" role="img">',
        "<title>Clients submit to Kafka, workers take records from it and claim tasks in Redis</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="m" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="h" d="M0 0L10 5L0 10z"/></marker></defs>',
        '<rect class="page" width="900" height="360" rx="8"/>',
    ]
    for box in BOXES:
        parts.append(
            f'<rect class="{box.kind}" x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8"/>'
            f'<text class="t" x="{box.x + 14}" y="{box.y + 25}">{html.escape(box.title)}</text>'
        )
        parts += [
            f'<text x="{box.x + 14}" y="{box.y + 47 + 20 * number}">{html.escape(line)}</text>'
            for number, line in enumerate(box.lines)
        ]
    for arrow in ARROWS:
        parts.append(f'<path class="a" marker-end="url(#m)" d="M{arrow.x1} {arrow.y1}L{arrow.x2} {arrow.y2}"/>')
        if arrow.word:
            parts.append(f'<text class="w" x="{arrow.at[0]}" y="{arrow.at[1]}">{html.escape(arrow.word)}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw())
