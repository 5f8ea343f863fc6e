"""What `yadtq check` says of what it has seen: pure decisions, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from yadtq.broker.wanted import task_topic_problem
from yadtq.errors import BrokerUnavailable, ConfigError, StoreUnavailable
from yadtq.shown import shown
from yadtq.wire.exits import DRAINED, FAILED, MISCONFIGURED, UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yadtq.broker.topics import TopicsSeen
    from yadtq.wire.heartbeat import Heartbeat

__all__ = ["Line", "clock", "failed", "redis_server", "round_trip", "status_of", "topics", "workers"]

#: Seconds by which clocks may differ. Leases are on Redis's clock alone: this is for dates and delays.
_SKEW_S = 2.0
#: As docs/how-to/deploy.md says.
_LEAST_REDIS = (7, 0)


class Line(NamedTuple):
    """status: the exit status that this line asks for; 0 unless it failed."""

    what: str
    state: Literal["ok", "warning", "failed"]
    text: str
    status: int = DRAINED


def failed(what: str, error: BaseException) -> Line:
    """An error of a look, with the exit status that a worker would end with."""
    status = FAILED
    if isinstance(error, ConfigError):
        status = MISCONFIGURED
    elif isinstance(error, BrokerUnavailable | StoreUnavailable | TimeoutError):
        status = UNREACHABLE
    text = shown(" ".join(str(error).split()), 1_000) or type(error).__name__
    return Line(what, "failed", text, status)


def status_of(lines: Sequence[Line]) -> int:
    """Wrong settings before servers that are away before the rest: the first thing to look at."""
    found = {line.status for line in lines}
    return next((status for status in (MISCONFIGURED, UNREACHABLE, FAILED) if status in found), DRAINED)


def topics(wanted: Mapping[str, tuple[int, Mapping[str, str]]], tasks: Sequence[str], seen: TopicsSeen) -> list[Line]:
    """wanted: partitions and configuration of each topic as it is made. tasks: those of them that hold tasks."""
    lines = []
    for topic, (partitions, _) in wanted.items():
        what = f"topic {topic}"
        if topic not in seen.partitions:
            text = "is not there yet: the first client or worker makes it, if its account may"
            lines.append(Line(what, "warning", text))
            continue
        count = seen.partitions[topic]
        configs = seen.configs.get(topic)
        values = {name: config.value for name, config in (configs or {}).items()}
        if topic in tasks and (problem := task_topic_problem(topic, values)):
            lines.append(Line(what, "failed", problem, MISCONFIGURED))
        elif configs is None:
            text = f"{count} partitions; its configuration can't be read: grant DESCRIBE_CONFIGS to have it checked"
            lines.append(Line(what, "warning", text))
        elif topic in tasks and count < partitions:
            text = (
                f"{count} partitions, num_partitions asks for {partitions}: existing topics are not grown by themselves"
            )
            lines.append(Line(what, "warning", text))
        else:
            lines.append(Line(what, "ok", f"{count} partition{'s' if count != 1 else ''}"))
    return lines


def redis_server(info: Mapping[str, Any] | None) -> Line:
    """info: of `INFO`, or None if the account may not ask."""
    if info is None:
        return Line("redis version", "ok", "unknown: the account may not ask (INFO), which nothing else needs")
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    name = f"{shown(str(info.get('server_name', 'redis')), 40)} {shown(version, 40)}"
    if numbers < _LEAST_REDIS:
        least = ".".join(map(str, _LEAST_REDIS))
        return Line("redis version", "failed", f"{name} is too old: YADTQ needs {least} or newer", MISCONFIGURED)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if info.get("maxmemory") and policy != "noeviction":
        text = f"{name} may evict the state of tasks: set maxmemory-policy to noeviction (it is {shown(policy, 40)})"
        return Line("redis version", "warning", text)
    if info.get("cluster_enabled"):
        return Line("redis version", "failed", f"{name} is a cluster: use one without cluster mode", MISCONFIGURED)
    return Line("redis version", "ok", name)


def clock(server: str, skew_s: float | None, uncertain_s: float) -> Line:
    """skew_s: by how much the server is ahead of this machine; None: it could not be measured."""
    what = f"clock of {server}"
    if skew_s is None:
        return Line(what, "ok", "not compared: no worker has written anything to compare with")
    if abs(skew_s) - uncertain_s > _SKEW_S:
        side = "ahead of" if skew_s > 0 else "behind"
        text = f"{abs(skew_s):.1f} s {side} this machine: set both by NTP; delays and dates would be off by as much"
        return Line(what, "warning", text)
    return Line(what, "ok", f"agrees with this machine's, to {max(abs(skew_s), uncertain_s):.1f} s")


def workers(beats: Sequence[Heartbeat], queues: Sequence[str]) -> Line:
    """queues: of the tasks of the app, as far as they are known."""
    live = [beat for beat in beats if beat.phase in ("running", "starting")]
    if not live:
        return Line("workers", "warning", "none is running: tasks wait until one is (python -m yadtq.worker)")
    served = {queue for beat in live for queue in beat.queues}
    if missing := sorted(set(queues) - served):
        return Line("workers", "warning", f"{len(live)} running, but none consumes {shown(', '.join(missing), 200)}")
    return Line("workers", "ok", f"{len(live)} running, queues: {shown(', '.join(sorted(served)), 200)}")


def round_trip(seconds: float | None, error: BaseException | None) -> Line:
    """seconds: from the submit to the result; None with an error, or if there is no worker to ask."""
    if error is not None:
        return failed("round trip", error)
    if seconds is None:
        return Line("round trip", "ok", "not tried: there is no worker")
    return Line("round trip", "ok", f"a task was submitted, run and answered in {seconds * 1000:.0f} ms")
