"""What others wrote is shown as one line of printable characters, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.shown import shown, shown_value


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@given(st.text())
def test_any_text_is_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert shown_value(text).isprintable()
    assert len(shown_value(text)) <= 60 * 10


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Grüße, 世界", "Grüße, 世界"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202eevil", r"\u202eevil"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        (5, "5"),
    ],
)
def test_what_is_escaped(text: object, right: str) -> None:
    assert shown(text) == right


def test_what_is_long_is_cut() -> None:
    assert shown("x" * 1_000, 10) == "xxxxxxx..."
    assert len(shown("x" * 1_000)) == 500


@pytest.mark.parametrize("value", [Rude(), 10**5_000, [Rude()]], ids=["rude", "long", "inside"])
def test_what_has_no_text(value: object) -> None:
    assert type(value).__name__ in shown_value(value) or "Rude" in shown_value(value)
    assert shown(value)
