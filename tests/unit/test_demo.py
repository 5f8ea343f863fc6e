"""The demo's pure parts: its numbers, its check, and what it reads out of a log."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from pathlib import Path

import pytest

from yadtq.demo import tasks
from yadtq.demo.check import problems
from yadtq.demo.complexity import functions_of
from yadtq.demo.progress import Kill, Progress, label
from yadtq.demo.sources import digests, standard_library
from yadtq.demo.tasks import Report, measure
from yadtq.wire.heartbeat import Heartbeat

SOURCE = """
import os

def plain():
    return 1

class Shop:
    def choose(self, a, b):
        if a and b or not a:
            return [x for x in a if x if x > 1]
        elif b:
            return 2 if a else 3
        for _ in a:
            while b:
                try:
                    assert a
                except ValueError:
                    pass
        def inner(y):
            if y:
                return y
        return inner

async def match_it(value):
    async for x in value:
        match x:
            case 1: pass
            case _: pass
"""


def report(path: str, sha256: str = "", **fields: object) -> Report:
    return Report(path, sha256 or f"sha of {path}", **fields)  # type: ignore[arg-type]


def test_complexity_of_each_function():
    # choose: 1, if 1, and 1, or 1, comprehension 1 with 2 ifs, elif 1, conditional 1, for 1, while 1, assert 1, except 1
    expected = {"plain": 1, "Shop.choose": 13, "Shop.choose.inner": 2, "match_it": 4}
    assert dict(functions_of(ast.parse(SOURCE))) == expected
    assert [function.name for function in functions_of(ast.parse(SOURCE))] == list(expected)


def test_measure():
    source = SOURCE.encode()
    found = measure("shop.py", source)
    assert (found.path, found.lines, len(found.functions), found.complexity) == ("shop.py", 28, 4, 20)
    assert found.sha256 == hashlib.sha256(source).hexdigest()
    assert found.error is None


@pytest.mark.parametrize("source", [b"def broken(:\n", b"# coding: no-such\n", b"a = \0"])
def test_what_cannot_be_parsed_is_reported_too(source):
    found = measure("broken.py", source)
    assert found.error
    assert "\n" not in found.error
    assert found.sha256 == hashlib.sha256(source).hexdigest()


def test_the_app_of_a_run_is_named_by_its_attribute():
    app = getattr(tasks, "demo-1f3a")
    assert app.name == "demo-1f3a"
    assert [task.name for task in app.registry] == ["analyse"]
    with pytest.raises(AttributeError, match="nothing"):
        tasks.nothing  # noqa: B018


def test_a_report_survives_the_wire():
    (task,) = tasks.make_app("demo-1").registry
    found = dataclasses.replace(measure("shop.py", SOURCE.encode()), worker="w", attempt=2, started_at=1.5)
    assert task.decode_result(task.encode_result(found)) == found


def test_the_standard_library():
    files = standard_library()
    assert any(path.endswith("asyncio/runners.py") for path in files)
    assert not any("site-packages" in path for path in files)
    some = standard_library(20)
    assert len(some) == len(set(some)) == 20
    assert set(some) <= set(files)
    assert digests(some[:1]) == {some[0]: hashlib.sha256(Path(some[0]).read_bytes()).hexdigest()}


EXPECTED = {"a.py": "sha of a.py", "b.py": "sha of b.py"}
GOOD = [report("a.py"), report("b.py")]


def test_check_is_content():
    assert problems(EXPECTED, GOOD, GOOD) == []


@pytest.mark.parametrize(
    ("reports", "problem"),
    [
        (GOOD[:1], "not reported: b.py"),
        ([*GOOD, report("b.py")], "reported 2 times: b.py"),
        ([*GOOD, report("c.py")], "reported, but never asked for: c.py"),
        ([GOOD[0], report("b.py", "wrong")], "wrong SHA-256: b.py"),
    ],
)
def test_check_catches(reports, problem):
    assert problems(EXPECTED, reports, reports) == [problem]


def test_check_catches_a_result_that_was_overwritten():
    again = [GOOD[0], report("b.py", attempt=2)]
    assert problems(EXPECTED, GOOD, again) == ["the result changed: b.py"]


def test_check_catches_a_failure():
    assert problems(EXPECTED, GOOD[:1], GOOD[:1], ["b.py: MemoryError"]) == [
        "no result: b.py: MemoryError",
        "not reported: b.py",
    ]


def test_a_worker_is_called_by_its_slot():
    assert label("host.demo-1.slot-2:1f3a") == "slot-2:1f3a"


def beat(slot: int, *partitions: int, worker: str = "a", phase: str = "running") -> Heartbeat:
    shares = {f"tasks/{number}": 0 for number in partitions}
    fields = {"worker": f"h.slot-{slot}:{worker}", "slot": f"h.slot-{slot}", "phase": phase, "partitions": shares}
    return Heartbeat.model_validate({"host": "h", "pid": 1, "seq": 1, "at": 0, **fields})


def test_the_group_is_balanced_when_each_has_a_share_and_all_shares_are_everything():
    progress = Progress(10)
    for crew in (
        [],
        [beat(0, 0, 1, 2, 3), beat(1)],
        [beat(0, 0, 1, 2, 3), beat(1, 1, 3)],
        [beat(0, 0, 2), beat(1, 1)],
        [beat(0, 0, 2), beat(1, 1, 3, phase="starting")],
    ):
        progress.see(crew)
        assert not progress.balanced(2, 4), crew
    progress.see([beat(0, 0, 2), beat(1, 1, 3)])
    assert progress.balanced(2, 4)


def test_what_the_kill_cost():
    progress = Progress(10)
    for worker, pid in (("h.slot-0:a", 7), ("h.slot-1:b", 8)):
        progress.event({"event": "spawned", "worker": worker, "pid": pid})
    assert progress.pids == {"h.slot-0:a": 7, "h.slot-1:b": 8}
    progress.kill = Kill("h.slot-0:a", "h.slot-0", 7, at=100.0, done=5)
    progress.event({"event": "died", "slot": "h.slot-0", "worker": "h.slot-0:a", "pid": 7, "cause": "signal 9"})
    progress.see([beat(1, 1), beat(0, worker="c")])
    progress.see([beat(1, 1), beat(0, 0, worker="c")])
    progress.event({"event": "ready", "slot": "h.slot-0", "worker": "h.slot-0:c", "pid": 9, "after_s": 0.5})
    progress.take(report("a.py", attempt=1, worker="h.slot-1:b", started_at=90.0))
    assert not progress.recovery_s
    progress.take(report("b.py", attempt=2, worker="h.slot-0:c", started_at=101.5))
    progress.take(report("c.py", attempt=2, worker="h.slot-0:c", started_at=102.5))
    assert (progress.successor, progress.changed) == ("h.slot-0:c", 0)
    assert progress.recovery_s == pytest.approx((1.5, 2.5))
    assert progress.pids == {"h.slot-1:b": 8}
    progress.see([beat(1, 1, 0), beat(0, worker="c")])
    assert progress.changed == 1


def test_a_forged_line_names_no_victim():
    progress = Progress(10)
    for line in ("x event=spawned slot=s worker=s:a pid=1", '{"event": "spawned", "worker": "s:a", "pid": 1}'):
        progress.line(line)
    assert progress.pids == {}
