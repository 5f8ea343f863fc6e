"""C: from the call of `submit` to the result in the caller's hands, one task at a time, client and worker idle else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.measure import Measure
from tests.bench.processes import child, new_app, workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.scenarios import Plan


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def round_trip(plan: Plan) -> list[Measure]:
    """Each repeat is a client, a worker and a floor of its own; the first round trips of each are warm-up.

    Before all of them comes one that is not counted, and long for Apache Kafka: for its first 15,000 round trips a Java
    server compiles itself, on the same cores.

    The floor is a whole bare round trip: a record to a bare consumer, one result script, its push back. The hop of the
    record alone stands beside it.
    """
    n = plan.scaled(2_000)
    p50 = Measure("C", "submit to result, p50", "ms", better="lower", target=1.3)
    p99 = Measure("C", "submit to result, p99", "ms", better="lower", target=3.0, steady=False)
    hop = Measure("C", "(floor: hop of a bare record, p50)", "ms", better="lower")
    _round_trips(plan, 15_000 if plan.stack.name == "kafka" else n)
    for _ in range(plan.repeats):
        floor = child(plan.stack, "floor_round_trips", new_app(), n=n)
        times = _round_trips(plan, n)
        for measure, share in ((p50, 0.5), (p99, 0.99)):
            measure.samples.append(quantile(times, share) * 1000)
            measure.floor.append(quantile(floor["times"], share) * 1000)
        hop.samples.append(quantile(floor["hops"], 0.5) * 1000)
    return [p50, p99, hop]


def _round_trips(plan: Plan, n: int) -> list[float]:
    plan.fresh()
    app = new_app()
    with workers(plan.stack, app, plan.folder):
        times: list[float] = child(plan.stack, "round_trips", app, n=n)["times"]
    return times
