from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from tests.support.ledger import LEDGER_VARIABLE, Ledger, LedgerReader, SubmitLog

if TYPE_CHECKING:
    from pathlib import Path


def _write_many(path: str, task_id: str) -> None:
    ledger = Ledger(path)
    for attempt in range(200):
        with ledger.execution(task_id, attempt, f"nonce-{attempt}"):
            pass


def test_an_execution_is_a_start_and_an_end(tmp_path: Path) -> None:
    ledger, reader = Ledger(tmp_path / "ledger"), LedgerReader(tmp_path / "ledger")
    assert reader.executions() == []
    with ledger.execution("a", 1, "n1", worker="w"):
        (running,) = reader.executions()
        assert (running.task_id, running.attempt, running.nonce, running.worker) == ("a", 1, "n1", "w")
        assert running.ended_at is None
        ledger.record("a", 1, "n1", "effect", worker="w")
    (ended,) = reader.by_task()["a"]
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at
    assert not ended.raised
    assert [entry.phase for entry in reader.entries()] == ["start", "effect", "end"]


def test_a_failed_execution_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    with pytest.raises(ValueError, match="no"), ledger.execution("a", 1, "n"):
        raise ValueError("no")
    (failed,) = LedgerReader(ledger.path).executions()
    assert failed.raised


def test_the_same_attempt_started_twice_makes_two_executions(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for _ in range(2):
        ledger.record("a", 1, "n", "start", worker="w")
    ledger.record("a", 1, "n", "end", worker="w")
    assert [run.ended_at is None for run in LedgerReader(ledger.path).executions()] == [True, False]


def test_lines_of_many_processes_do_not_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = str(tmp_path / "ledger")
    writers = [context.Process(target=_write_many, args=(path, f"task-{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    by_task = LedgerReader(path).by_task()
    assert {task_id: len(runs) for task_id, runs in by_task.items()} == {"task-0": 200, "task-1": 200, "task-2": 200}
    assert all(run.ended_at for runs in by_task.values() for run in runs)


def test_a_line_in_the_making_is_left_for_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.record("a", 1, "n", "start")
    with ledger.path.open("ab") as file:
        file.write(b'{"task_id": "b", "att')
    assert [entry.task_id for entry in LedgerReader(ledger.path).entries()] == ["a"]


def test_workers_find_the_file_in_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "ledger"))
    assert Ledger.from_environment().path == tmp_path / "ledger"


def test_only_acknowledged_submits_count_and_from_the_first_time(tmp_path: Path) -> None:
    log = SubmitLog(tmp_path / "submits")
    log.record("a", "sent")
    log.record("a", "uncertain")
    log.record("b", "sent")
    log.record("b", "acknowledged")
    log.record("b", "acknowledged")
    assert log.acknowledged() == {"b": log.submits()[3].at}
