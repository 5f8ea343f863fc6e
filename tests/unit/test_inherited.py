"""What a process gets from its parent: servers that a command line has named hold in all processes under it."""

from __future__ import annotations

from yadtq.app import Yadtq
from yadtq.supervisor.__main__ import parse, worker_command
from yadtq.wire.inherited import Inherited, handed_on


def test_a_command_line_goes_before_code_in_every_process_under_it() -> None:
    environ: dict[str, str] = {}
    supervisor = Yadtq("shop", kafka="code:1", redis="redis://code/1")
    supervisor.configure(**handed_on(environ, kafka="given:2", redis=None))
    assert (supervisor.settings.kafka, supervisor.settings.redis) == ("given:2", "redis://code/1")
    for _ in ("its worker", "the child of that"):
        process = Yadtq("shop", kafka="code:1", redis="redis://code/1")
        process.configure(**handed_on(environ))
        assert (process.settings.kafka, process.settings.redis) == ("given:2", "redis://code/1")


def test_a_command_line_of_its_own_goes_before_that_of_the_parent() -> None:
    environ = {"YADTQ_SLOT_KAFKA": "parent:1"}
    assert handed_on(environ, kafka="own:2", redis=None) == {"kafka": "own:2", "redis": None}


def test_taking_the_slot_leaves_the_servers_for_children() -> None:
    environ = {"YADTQ_SLOT": "s", "YADTQ_SLOT_SECRET": "x", "YADTQ_SLOT_REDIS": "redis://h/0"}
    assert Inherited.take(environ).slot == "s"
    assert environ == {"YADTQ_SLOT_REDIS": "redis://h/0"}


def test_no_address_is_on_the_command_line_of_a_worker() -> None:
    arguments = parse(["tasks:app", "--kafka", "k:1", "--redis", "redis://:s3cret@h/0", "--queues", "mail"])
    words = " ".join(worker_command(arguments))
    assert "s3cret" not in words
    assert "k:1" not in words
    assert words.endswith("yadtq.worker tasks:app --queues mail --log-level INFO")
