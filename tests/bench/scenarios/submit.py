"""B: how fast one client process submits. A submit returns when Kafka has the record (acks=all); in B2 the clock runs on
until every task is also QUEUED in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.measure import Measure
from tests.bench.processes import child, new_app
from yadtq.store.keys import Keys

if TYPE_CHECKING:
    from tests.bench.scenarios import Plan

_TURNS = 10


def one_by_one(plan: Plan) -> list[Measure]:
    """B1: each awaited before the next, by turns with a bare `send_and_wait` in the same loop."""
    n = plan.scaled(5_000)
    rate = Measure("B1", "submit, one after the other", "submits/s", ratio_target=0.85)
    for turn in range(plan.repeats + 1):
        plan.fresh()
        took = child(plan.stack, "submit_in_turns", new_app(), n=n, turns=_TURNS)
        if turn:
            rate.samples.append(took["rate"])
            rate.floor.append(took["floor"])
    return [rate]


def in_bulk(plan: Plan) -> list[Measure]:
    """B2: 20,000 at once, by `submit_many` and by gathered `submit`s."""
    n = 20_000
    many = Measure("B2", "submit_many of 20,000", "submits/s", target=60_000)
    many_cpu = Measure("B2", "submit_many, CPU of the client", "us/task", better="lower")
    gathered = Measure("B2", "20,000 gathered submits", "submits/s", target=60_000)
    gathered_cpu = Measure("B2", "gathered submits, CPU of the client", "us/task", better="lower")
    for turn in range(plan.repeats + 1):
        for what, bare, rate, cpu in (
            ("submit_many", "floor_produce_many", many, many_cpu),
            ("submit_gathered", "floor_produce_gathered", gathered, gathered_cpu),
        ):
            plan.fresh()
            app = new_app()
            floor = child(plan.stack, bare, app, n=n)
            took = child(plan.stack, what, app, n=n)
            _check_queued(plan, app, took["ids"])
            if turn:
                rate.samples.append(took["rate"])
                rate.floor.append(floor["rate"])
                cpu.samples.append(took["cpu_us"])
    return [many, many_cpu, gathered, gathered_cpu]


def _check_queued(plan: Plan, app: str, task_ids: list[str]) -> None:
    prefix = Keys(app).task
    with plan.stack.store() as store:
        pipe = store.pipeline(transaction=False)
        for task_id in task_ids:
            pipe.hget(prefix + task_id, "s")
        states = pipe.execute()
    if states != [b"Q"] * len(task_ids):
        raise RuntimeError(f"{states.count(b'Q')} of {len(task_ids)} submitted tasks are QUEUED in Redis")
