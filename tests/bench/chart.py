"""A bar chart as SVG text, readable on a light and on a dark page; no library."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _LABELS, _VALUES = 760, 190, 90
_BAR, _GAP, _TITLE = 18, 6, 34
_OURS, _OTHERS, _TEXT = "#2f81f7", "#8b949e", "#768390"


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    text: str
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars that share a scale."""

    title: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return _TITLE + len(self.bars) * (_BAR + _GAP) + 14


def svg(panels: Sequence[Panel]) -> str:
    height = sum(panel.height for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">'
    ]
    top = 0
    for panel in panels:
        parts += _panel(panel, top)
        top += panel.height
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int) -> list[str]:
    parts = [f'<text x="0" y="{top + 20}" font-weight="bold" fill="{_TEXT}">{escape(panel.title)}</text>']
    scale = (_WIDTH - _LABELS - _VALUES) / max(bar.value for bar in panel.bars)
    for at, bar in enumerate(panel.bars):
        y = top + _TITLE + at * (_BAR + _GAP)
        color, weight = (_OURS, "bold") if bar.ours else (_OTHERS, "normal")
        width = max(1.0, bar.value * scale)
        text = f'y="{y + 13}" fill="{_TEXT}" font-weight="{weight}"'
        parts += [
            f'<text x="{_LABELS - 8}" text-anchor="end" {text}>{escape(bar.label)}</text>',
            f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{color}"/>',
            f'<text x="{_LABELS + width + 6:.1f}" {text}>{escape(bar.text)}</text>',
        ]
    return parts
