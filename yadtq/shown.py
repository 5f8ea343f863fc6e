"""Text that others wrote, made fit to be shown: in a log line, an error message or a terminal.

Names, ids and error messages of tasks come from anyone who can write to Kafka or Redis. Raw, they could forge log
lines, move the cursor, or set the reader's clipboard. So what is shown passes through here; what is stored or returned
does not.
"""

from __future__ import annotations

__all__ = ["shown", "shown_address", "shown_value"]

_MOST = 500


def shown(text: object, most: int = _MOST) -> str:
    """One line of printable characters; all others are escaped as in a Python string, and a long text is cut.

    text: if it is no string, what `str` makes of it. Never raises.
    """
    if not isinstance(text, str):
        try:
            text = str(text)
        except Exception as error:  # the object's own __str__ may raise anything; we only want to show it
            text = f"<{type(text).__name__} whose text can't be had: {type(error).__name__}>"
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    # `isprintable` is false for control characters, line separators, bidirectional overrides and lone surrogates.
    return text if text.isprintable() else "".join(map(_escaped, text))


def shown_value(value: object, most: int = 60) -> str:
    """`repr`, under the same rules: for `expected ..., not {value}`."""
    try:
        text = repr(value)
    except Exception as error:  # an int of 5,000 digits, for one
        text = f"<{type(value).__name__} that can't be shown: {type(error).__name__}>"
    return shown(text, most)


def shown_address(url: str) -> str:
    """A URL without its password, so that it may be logged or printed."""
    scheme, slashes, rest = url.partition("//")
    login, at, place = rest.rpartition("@")
    user, colon, _password = login.partition(":")
    place, mark, query = place.partition("?")
    query = "***" if "password" in query else query
    return shown(f"{scheme}{slashes}{user}{':***' if colon else ''}{at}{place}{mark}{query}")


def _escaped(char: str) -> str:
    return char if char.isprintable() else ascii(char)[1:-1]
