"""Each option is one line in a table: its rule, its field on the wire, its flag. A wrong one is refused on every way in."""

from __future__ import annotations

import decimal
import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

from tests.support.client_bench import ClientBench
from yadtq import Yadtq
from yadtq.cli.root import run
from yadtq.errors import ConfigError
from yadtq.options import RULES, CallOptions, TaskOptions, checked, effective, wire_fields
from yadtq.retry import RetryPolicy
from yadtq.shown import shown_value
from yadtq.sync import YADTQClient
from yadtq.wire.codec import decode
from yadtq.wire.envelope import FIELDS, Envelope, decode_envelope, encode_envelope, encode_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.client.client import Client

DOCS = Path(__file__).resolve().parents[2] / "docs"

WRONG: list[tuple[str, Any]] = [
    ("retries", 2.5),
    ("retries", 2.0),
    ("retries", -1),
    ("retries", True),
    ("retries", "3"),
    ("retries", 10**4300),
    ("retries", math.inf),
    ("timeout", 0),
    ("timeout", -1.0),
    ("timeout", math.nan),
    ("timeout", math.inf),
    ("timeout", "5"),
    ("timeout", True),
    ("timeout", 10**400),
    ("queue", "a b"),
    ("queue", ""),
    ("queue", 5),
    ("task_id", "a b"),
    ("task_id", ""),
    ("task_id", "x" * 129),
    ("task_id", 5),
]
IDS = [f"{name}={shown_value(value, 20)}" for name, value in WRONG]


class TestTheTable:
    def test_every_option_has_a_rule_and_every_rule_an_option(self) -> None:
        assert {*TaskOptions.__annotations__, *CallOptions.__annotations__} == RULES.keys()

    def test_the_wire_fields_are_fields_of_the_envelope(self) -> None:
        wired = {rule.wire for rule in RULES.values()} - {None}
        assert wired <= {name for name, _ in FIELDS}

    def test_what_the_types_say_is_what_the_command_line_reads(self) -> None:
        for options in (TaskOptions, CallOptions):
            for name, hint in get_type_hints(options).items():
                assert hint == RULES[name].kind | None, name

    def test_the_page_is_the_table(self) -> None:
        page = (DOCS / "reference" / "options.md").read_text()
        rows = {row[0].strip("` "): [cell.strip() for cell in row[1:]] for row in _rows(page)}
        assert rows.keys() == RULES.keys()
        for name, rule in RULES.items():
            task, call, wire, flag, line = rows[name]
            assert (task, call) == (
                "yes" if name in TaskOptions.__annotations__ else "",
                "yes" if name in CallOptions.__annotations__ else "",
            ), name
            assert (wire.strip("`"), flag.strip("`")) == (rule.wire or "", rule.flag or ""), name
            assert line == rule.line, name


def _rows(page: str) -> list[list[str]]:
    return [line.strip().strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]


class TestTheEnvelope:
    def test_encoder_and_decoder_are_one_table(self) -> None:
        assert {name for name, _ in FIELDS} == {each.name for each in fields(Envelope)}
        every = Envelope(id="a", task="t", args=[1], kwargs={"b": 2}, at=1.5, retries=2, timeout_s=3.0, fingerprint="f")
        assert list(decode(encode_envelope(every))) == [name for name, _ in FIELDS]
        assert decode_envelope(encode_envelope(every)) == every
        short = encode_task("a", "t", [1], {"b": 2}, at=1.5, retries=2, timeout_s=3.0, fingerprint="f")
        assert short == encode_envelope(every), "the short way is the same table"

    def test_the_page_is_the_table(self) -> None:
        section = (DOCS / "wire-format.md").read_text().partition("\n## A task\n")[2].partition("\n## ")[0]
        shown = [(row[0].strip("` "), row[1].strip()) for row in _rows(section)]
        assert [name for name, _ in shown] == [name for name, _ in FIELDS]
        for (name, says), (_, default) in zip(shown, FIELDS, strict=True):
            assert (says == "optional") == (default is None), name


class TestChecked:
    def test_none_is_the_same_as_left_out(self) -> None:
        assert checked({"retries": None, "timeout": 2}, CallOptions.__annotations__) == {"timeout": 2.0}

    @pytest.mark.parametrize(
        ("name", "value"), [("retry_base", -1), ("retry_cap", math.nan), ("name", ""), ("name", 5)]
    )
    def test_of_a_definition(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=name.replace("_", ".")):
            checked({name: value}, TaskOptions.__annotations__)

    def test_an_unknown_name_is_told_what_is_near(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'retries'"):
            checked({"retires": 1}, CallOptions.__annotations__)
        with pytest.raises(ConfigError, match="no option 'colour' here: there are task_id, queue"):
            checked({"colour": 1}, CallOptions.__annotations__)

    def test_numbers_of_other_kinds(self) -> None:
        assert checked({"timeout": decimal.Decimal("2.5")}, CallOptions.__annotations__) == {"timeout": 2.5}

    def test_the_message_is_short(self) -> None:
        with pytest.raises(ConfigError) as caught:
            checked({"retries": "x" * 5_000}, CallOptions.__annotations__)
        assert len(str(caught.value)) < 150


class TestEffective:
    def test_the_call_goes_over_the_task(self) -> None:
        app = Yadtq("t")

        @app.task(retries=3, retry_base=2.0, timeout=30)
        async def work() -> None: ...

        assert effective(work, Envelope("a", "work")) == (RetryPolicy(3, 2.0, 300.0), 30)
        assert effective(work, Envelope("a", "work", retries=0, timeout_s=1.5)) == (RetryPolicy(0, 2.0, 300.0), 1.5)
        assert effective(None, Envelope("a", "gone", timeout_s=1.5)) == (RetryPolicy(0), 1.5)
        assert effective(None, Envelope("a", "gone")).timeout_s is None


@pytest.fixture
def bench() -> ClientBench:
    return ClientBench()


@pytest.fixture
async def client(bench: ClientBench) -> AsyncIterator[Client]:
    async with bench.client() as connected:
        yield connected


@pytest.mark.parametrize(("name", "value"), WRONG, ids=IDS)
class TestRefused:
    async def test_by_every_way_of_the_async_client(
        self, bench: ClientBench, client: Client, name: str, value: Any
    ) -> None:
        options: CallOptions = {name: value}  # type: ignore[misc]
        with pytest.raises(ConfigError, match=name):
            bench.work.options(**options)
        with pytest.raises(ConfigError, match=name):
            await client.submit_task(bench.work, (1,), {}, options)
        with pytest.raises(ConfigError, match=name):
            await client.submit_task("work", (1,), {}, options)
        with pytest.raises(ConfigError, match=name):
            await client.submit_many(bench.work, [(1,)], options)
        assert bench.sink.appended == []

    def test_at_the_definition(self, name: str, value: Any) -> None:
        if name in TaskOptions.__annotations__:
            with pytest.raises(ConfigError, match=name):
                Yadtq("t").task(**{name: value})(print)


@pytest.mark.parametrize(
    ("flag", "text", "says"),
    [
        ("--timeout", "inf", "timeout must be"),
        ("--timeout", "nan", "timeout must be"),
        ("--timeout", "0", "timeout must be"),
        ("--retries", "-1", "retries must be"),
        ("--retries", "2.5", "--retries"),
        ("--queue", "a b", "queue name"),
        ("--id", "a b", "task_id"),
    ],
)
def test_refused_by_the_command_line(flag: str, text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "addition", flag, text]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


class TestMerged:
    async def test_options_of_the_call_go_over_those_the_task_was_bound_to(
        self, bench: ClientBench, client: Client
    ) -> None:
        bound = bench.work.options(retries=5, timeout=7)
        await client.submit_task(bound, (1,), {}, CallOptions(timeout=1, queue="slow"))
        (record,) = bench.sink.appended
        value = decode(record.value or b"")
        assert (value["retries"], value["timeout_s"], record.topic) == (5, 1.0, "yadtq.t.tasks.slow")
        assert bound.options == {"retries": 5, "timeout": 7.0}

    async def test_of_many(self, bench: ClientBench, client: Client) -> None:
        await client.submit_many(bench.work.options(retries=5), [(1,)], {"timeout": 2})
        value = decode(bench.sink.appended[0].value or b"")
        assert (value["retries"], value["timeout_s"]) == (5, 2.0)

    def test_only_what_travels_is_written(self) -> None:
        assert wire_fields({"queue": "a", "retries": 2, "task_id": "x", "timeout": 1.0}) == {
            "retries": 2,
            "id": "x",
            "timeout_s": 1.0,
        }

    def test_the_blocking_client_takes_the_same(self) -> None:
        for method in (YADTQClient.submit_task, YADTQClient.submit_many):
            assert method.__annotations__["options"] == "Unpack[CallOptions]"
