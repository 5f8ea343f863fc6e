"""How commands print: JSON that a terminal can't be harmed by, tables that are whole, lengths of time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table
from rich.text import Text

from yadtq.errors import ConfigError
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["age", "as_json", "cell", "console", "print_json", "seconds", "table_of"]

#: Of what is not a terminal: no row is ever cut.
_PLAIN_WIDTH = 10_000
_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d|)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_CELL = 400


def console() -> Console:
    """Of standard output. In a pipe rows are as wide as they need to be."""
    found = Console()
    return found if found.is_terminal else Console(width=_PLAIN_WIDTH)


def table_of(titles: Sequence[str], rows: Iterable[Sequence[Text]], *, numbers: Sequence[str] = ()) -> Table:
    """On a narrow terminal cells are continued on the next line instead of being cut. numbers: titles of columns that
    are aligned to the right.
    """
    found = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        found.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for row in rows:
        found.add_row(*row)
    return found


def cell(text: str, longest: int = _LONGEST_CELL) -> Text:
    """Text that others chose: not as markup, and without control characters."""
    return Text(shown(text, longest))


def as_json(value: Any) -> str:
    """A task of a loaded app returns what its annotation says, which may be a dataclass or a model."""
    text = json.dumps(to_jsonable_python(value), ensure_ascii=False)
    if text.isprintable():
        return text
    # JSON can escape every character, so control characters for the terminal are escaped without changing the value.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def print_json(value: Any) -> None:
    typer.echo(as_json(value))


def seconds(text: str) -> float:
    """A length of time: `90`, `30s`, `15m`, `24h`, `7d`. Raises `ConfigError`."""
    found = _LENGTH.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{shown(text)}: expected a length of time such as 90, 15m, 24h or 7d")
    return float(found[1]) * _UNITS[found[2]]


def age(seconds: float | None) -> str:
    """The other way round, in the largest unit that fits; `-` for None."""
    if seconds is None:
        return "-"
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
