"""How a page is followed: what its steps are, and what counts as the same output."""

from __future__ import annotations

import pytest

from tests.site.newcomer import QUICKSTART, Step, matches, steps


def test_steps_are_files_commands_and_output_elsewhere():
    session = "```text\n$ yadtq dev\nout 1\n$ yadtq x\n```\n\n```text\n... event=died\n```\n"
    page = f"`a.py`:\n\n```python\nx = 1\n```\n\n{session}"
    assert steps(page) == [
        Step("x = 1\n", file="a.py"),
        Step("out 1\n", command="yadtq dev"),
        Step("", command="yadtq x"),
        Step("... event=died\n"),
    ]


def test_the_quickstart_has_steps():
    found = steps(QUICKSTART.read_text())
    assert {step.file for step in found if step.file} >= {"tasks.py", "submit.py", "kill.py"}
    assert any(step.command == "python kill.py" for step in found)


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("0210c2445baa16251633088b 125 SUCCESS", "93ff21c5a7dcc31c7bd9e065 125 SUCCESS", True),
        ("baked by vm.shop.slot-0:25ffb374 on attempt 2", "baked by my-host.shop.slot-1:00000001 on attempt 2", True),
        ("... event=ready after_s=0.262", "2026-01-01 INFO x: event=ready after_s=1.5", True),
        ("KAFKA", "noise\nKAFKA\nmore", True),
        ("KAFKA", "kafka", False),
        ("0 4 6", "4 0", False),
        ("a\nb", "a", False),
    ],
)
def test_output_is_compared_without_what_differs_from_run_to_run(expected, printed, same):
    assert matches(expected, printed) is same
