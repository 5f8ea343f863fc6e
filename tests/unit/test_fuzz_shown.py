"""Whatever is shown or configured: printable lines on the terminal, settings within their bounds or one typed line."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.support.fuzzing import MINUTES, fuzz
from yadtq.cli import root
from yadtq.cli.options import parse_call
from yadtq.cli.output import as_json
from yadtq.cli.workers import table
from yadtq.errors import ConfigError, TaskFailed, TaskNotFound
from yadtq.options import RULES, CallOptions, TaskOptions, checked
from yadtq.settings import Settings, SupervisorSettings, WorkerSettings
from yadtq.shown import shown, shown_address, shown_value
from yadtq.wire.heartbeat import Heartbeat, RunningTask

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a terminal, a log or rich would obey.
nasty = st.sampled_from(
    [
        "\x1b[2J",
        "\x1b]52;c;YQ==\x07",
        "[red]",
        "[/]",
        "[link=x]",
        "\r",
        "\n",
        "\u2028",
        "\u202e",
        "\ud800",
        "\x9b",
        "\x00",
        ":smile:",
        "%s{0}",
    ]
)
texts = st.lists(nasty | st.text(max_size=5), max_size=5).map("".join)
#: What a reader of JSON lets through: no lone surrogates.
read_texts = texts.map(lambda text: text.replace("\ud800", "?"))
_huge = st.just(5_000).map(lambda digits: 10**digits)  # not among samples, which Hypothesis shows
numbers = (
    _huge
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, 1e308, 2**63, -1, 0])
    | st.booleans()
    | st.none()
    | texts
)
heartbeats = st.builds(
    Heartbeat,
    worker=read_texts,
    host=read_texts,
    pid=st.integers(0, 2**63 - 1),
    phase=st.sampled_from(["starting", "running", "draining"]),
    seq=st.just(1),
    at=st.just(1.0),
    loop_lag_s=st.floats(0, 1e10),
    rss_bytes=st.integers(0, 2**63 - 1),
    partitions=st.dictionaries(read_texts, st.integers(0, 2**63 - 1), max_size=3),
    running=st.lists(
        st.builds(RunningTask, id=read_texts, task=read_texts, attempt=st.just(1), age_s=st.just(1.0)), max_size=2
    ),
)


def check_line(error: ConfigError) -> None:
    assert "\n" not in str(error)
    assert "hunter2" not in str(error)
    assert len(str(error)) < 2_000


class Hostile:
    """Its texts raise, or return nonsense."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        raise KeyError(self._text)

    def __repr__(self) -> str:
        return self._text


@pytest.mark.timeout(90 + MINUTES * 60)
def test_any_text_is_shown_in_one_printable_line() -> None:
    @given(texts | st.integers() | texts.map(Hostile) | st.binary(max_size=9), st.integers(4, 60))
    def test(value: Any, most: int) -> None:
        for line in (shown(value, most), shown_value(value, most)):
            assert line.isprintable()
            line.encode()
            assert len(line) <= most * 10  # each of them escaped
        address = shown_address(f"redis://user:hunter2@{value if isinstance(value, str) else ''}")
        assert address.isprintable()
        assert "hunter2" not in address

    fuzz(test, 300)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_the_table_of_workers() -> None:
    @given(st.lists(heartbeats, max_size=3), st.integers(10, 200), st.booleans())
    def test(beats: list[Heartbeat], width: int, terminal: bool) -> None:
        output = io.StringIO()
        Console(file=output, width=width, force_terminal=terminal, color_system=None).print(table(beats))
        for line in output.getvalue().split("\n"):
            plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[3m", "")  # rich's own
            assert plain.isprintable(), repr(line)

    fuzz(test, 60)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | read_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(read_texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_results_and_errors_on_the_terminal() -> None:
    @given(json_data, texts)
    def test(value: Any, text: str) -> None:
        printed = as_json(value)
        assert printed.isprintable()
        printed.encode()
        json.loads(printed)
        for error, status in [(TaskFailed("id", text, text, text), 1), (TaskNotFound(text), 1), (ConfigError(text), 2)]:
            output = io.StringIO()
            with mock.patch.object(root, "app", side_effect=error), mock.patch("sys.stderr", output):
                assert root.run([]) == status
            told = output.getvalue()
            assert told[-1] == "\n"
            assert told[:-1].isprintable()

    fuzz(test, 200)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_words_of_a_submit() -> None:
    word = texts | st.sampled_from(["NaN", "Infinity", "-1", "--", "[1", "1e999", "9" * 5_000, "[" * 9_999, "x=1", "="])

    @given(st.lists(word, max_size=3), st.lists(word | word.map("x={}".format), max_size=3))
    def test(words: list[str], keywords: list[str]) -> None:
        try:
            parse_call(words, keywords)
        except ConfigError as error:
            check_line(error)

    fuzz(test, 200)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_options() -> None:
    names = st.sampled_from([*RULES, "retry", "tiemout"]) | texts

    @given(st.dictionaries(names, numbers, max_size=3), st.sampled_from([TaskOptions, CallOptions]))
    def test(options: dict[str, Any], known: type[Any]) -> None:
        try:
            found = checked(options, known.__annotations__)
        except ConfigError as error:
            check_line(error)
        else:
            json.dumps(found, allow_nan=False)

    fuzz(test, 300)


@pytest.mark.timeout(90 + MINUTES * 60)
def test_settings_from_keywords_and_the_environment() -> None:
    groups: list[tuple[type[Any], str]] = [
        (Settings, "YADTQ_"),
        (WorkerSettings, "YADTQ_WORKER_"),
        (SupervisorSettings, "YADTQ_SUPERVISOR_"),
    ]
    url = st.builds("{}://{}:hunter2@{}".format, st.sampled_from(["redis", "rediss", "http", ""]), texts, texts)
    value = numbers | url | st.sampled_from(["localhost:9092", "redis://h/0", "redis://h/xx", "a,b", "[1]", "{", "1e9"])
    environment = {name: text for name, text in os.environ.items() if not name.startswith("YADTQ_")}

    def settable(text: str) -> bool:
        return "\x00" not in text and text.isascii()

    @given(st.sampled_from(groups), st.data())
    def test(group: tuple[type[Any], str], data: st.DataObject) -> None:
        model, prefix = group
        names = st.sampled_from([*model.model_fields, "nonsense"])
        given_ = data.draw(st.dictionaries(names, value, max_size=2))
        variables = data.draw(st.dictionaries(names, value.map(str_of).filter(settable), max_size=2))
        with mock.patch.dict(
            os.environ, environment | {f"{prefix}{name.upper()}": text for name, text in variables.items()}, clear=True
        ):
            load: Callable[..., Any] = model.load
            try:
                settings = load(**given_)
            except ConfigError as error:
                check_line(error)
            else:
                # Only this one may have a password: what somebody puts into the names of queues is shown.
                url_of_redis = str(getattr(settings, "redis", ""))
                assert "hunter2" not in url_of_redis or url_of_redis not in repr(settings)

    fuzz(test, 300)


def str_of(value: Any) -> str:
    return value if isinstance(value, str) else shown_value(value)
