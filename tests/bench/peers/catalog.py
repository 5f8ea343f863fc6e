"""Which systems, in which variants, and how their workers are started.

Each at its defaults but for the concurrency and what a variant's name says; variants stand where a default hides the
real speed. What the variants buy with it (early acknowledgement, polling) is told in docs/performance.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """command: of one worker, `{bin}` and `{apps}` filled in. options: of the client's way to wait for a result.

    scenarios: which this variant is measured in, by their letters; n: tasks in A.
    """

    label: str
    system: str  # of adapters.SYSTEMS
    command: str
    environment: str = "main"
    env: Mapping[str, str] = field(default_factory=dict)
    scenarios: str = "ABCDEF"
    n: int = 10_000
    options: Mapping[str, float] = field(default_factory=dict)
    round_trips: int = 300

    def argv(self, bin_dir: Path, apps: Path, redis: str) -> list[str]:
        return self.command.format(bin=bin_dir, apps=apps, redis=redis).split()


_TASKIQ = "{bin}/taskiq worker taskiq_app:broker -w 1 --max-async-tasks %d --max-prefetch 0 --log-level WARNING"
_CELERY = "{bin}/celery -A celery_app worker -P %s -c %d -l WARNING -n bench"
_DRAMATIQ = "{bin}/dramatiq dramatiq_app -p 1 -t %d"
_HUEY = "{bin}/huey_consumer huey_app.huey -w %d -k thread -q"
_ARQ = "{bin}/arq arq_app.WorkerSettings --custom-log-dict arq_app.quiet"
_SAQ = "{bin}/saq saq_app.settings --quiet --workers 1"
_STREAQ = "{bin}/python {apps}/streaq_app.py"
_RQ = "{bin}/rq worker -q --logging_level WARNING -w rq.SimpleWorker -S json -u {redis} -P {apps} default"
_KAFKA, _STREAM = {"BENCH_BROKER": "kafka"}, {"BENCH_BROKER": "stream"}
_WIDE = {"BENCH_CONCURRENCY": "1000"}

PEERS: Sequence[Peer] = (
    Peer("taskiq on Kafka", "taskiq", _TASKIQ % 100, env=_KAFKA, round_trips=40, scenarios="ABCEF"),
    Peer("taskiq on Kafka, poll 1 ms", "taskiq", _TASKIQ % 100, env=_KAFKA, scenarios="C", options={"poll": 0.001}),
    Peer("taskiq on Kafka, 1,000 at once", "taskiq", _TASKIQ % 1000, env=_KAFKA, scenarios="D"),
    Peer("taskiq on Redis", "taskiq", _TASKIQ % 100, env=_STREAM, round_trips=40, scenarios="ABCEF"),
    Peer("taskiq on Redis, poll 1 ms", "taskiq", _TASKIQ % 100, env=_STREAM, scenarios="C", options={"poll": 0.001}),
    Peer("taskiq on Redis, 1,000 at once", "taskiq", _TASKIQ % 1000, env=_STREAM, scenarios="D"),
    Peer("huey, 8 threads", "huey", _HUEY % 8, scenarios="ABCEF", round_trips=40),
    Peer("huey, notify", "huey", _HUEY % 8, env={"BENCH_NOTIFY": "1"}, scenarios="C"),
    Peer("huey, 100 threads", "huey", _HUEY % 100, scenarios="D"),
    Peer("arq", "arq", _ARQ, "redis5", scenarios="ABCEF", n=5_000, round_trips=10),
    Peer("arq, poll 10 ms", "arq", _ARQ, "redis5", {"BENCH_POLL": "0.01"}, scenarios="AC", options={"poll": 0.01}),
    Peer("arq, 1,000 at once", "arq", _ARQ, "redis5", _WIDE, scenarios="D"),
    Peer("dramatiq, 8 threads", "dramatiq", _DRAMATIQ % 8, scenarios="ABCEF", round_trips=200),
    Peer("dramatiq, 100 threads", "dramatiq", _DRAMATIQ % 100, scenarios="D"),
    Peer("saq", "saq", _SAQ, "redis5", scenarios="ABCEF", round_trips=10),
    Peer("saq, push", "saq", _SAQ, "redis5", scenarios="C", options={"push": 1}),
    Peer("saq, 900 at once", "saq", _SAQ, "redis5", env={"BENCH_CONCURRENCY": "900"}, scenarios="D"),
    Peer("streaq", "streaq", _STREAQ, scenarios="ABCEF", n=6_000, round_trips=60),
    Peer("streaq, 1,000 at once", "streaq", _STREAQ, env=_WIDE, scenarios="D"),
    Peer("celery, prefork 2", "celery", _CELERY % ("prefork", 2), scenarios="ABCEF", n=5_000),
    Peer("celery, 100 threads", "celery", _CELERY % ("threads", 100), scenarios="D"),
    Peer("rq, no fork", "rq", _RQ, scenarios="ABCEF", n=1_500),
)
