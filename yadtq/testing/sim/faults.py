"""Kinds of faults. A seed draws which of them happen at all, how often, and each time to whom and for how long.

What a fault excuses is said beside it: a `touch` allows one more execution of what the workers that it meets run then.
Nothing that happens on Kafka's side excuses one, since a lease lies in Redis.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yadtq.testing.sim.net import Weather

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from yadtq.testing.sim.process import SimProcess
    from yadtq.testing.sim.scenario import Scenario

__all__ = ["KINDS", "Kind", "draw_kinds"]

#: A worker that can't renew for so much of a lease may lose it, with other troubles beside it.
_PART_OF_LEASE = 0.25


@dataclass(frozen=True, slots=True)
class Kind:
    """act: does it now, with the chance given. weight: how often, against others. usual: a swarm may draw it."""

    name: str
    act: Callable[[Scenario, Random], None]
    weight: float = 1.0
    usual: bool = True


def _someone(scenario: Scenario, chance: Random) -> SimProcess | None:
    alive = scenario.fleet.alive()
    return chance.choice(alive) if alive else None


def _touch_if_long(scenario: Scenario, kind: str, seconds: float, *workers: str) -> None:
    if seconds >= _PART_OF_LEASE * scenario.settings.lease_s:
        scenario.touch(kind, seconds + 2.0 + 2 * scenario.settings.heartbeat_s, *workers)


def _kill(scenario: Scenario, chance: Random) -> None:
    if process := _someone(scenario, chance):
        scenario.touch("kill", 0.0, process.worker)
        process.kill()


def _freeze(scenario: Scenario, chance: Random) -> None:
    if process := _someone(scenario, chance):
        seconds = chance.choice([0.3, 1.5, 3.0]) * scenario.settings.lease_s * chance.random()
        _touch_if_long(scenario, "freeze", seconds, process.node.name)
        process.node.freeze(seconds)


def _kill_supervisor(scenario: Scenario, chance: Random) -> None:
    """Its workers drain: tasks that are not done within their grace are cancelled, and run again."""
    host = chance.choice(scenario.fleet.hosts)
    if (boss := host.boss) is not None and boss.alive:
        scenario.touch("no supervisor", scenario.options.grace_s + 10.0, *host.processes)
        scenario.world.kill(boss)


def _freeze_supervisor(scenario: Scenario, chance: Random) -> None:
    if (boss := chance.choice(scenario.fleet.hosts).boss) is not None:
        boss.freeze(chance.uniform(0.5, 20.0))


def _drain(scenario: Scenario, chance: Random) -> None:
    if process := _someone(scenario, chance):
        scenario.touch("drain", scenario.options.grace_s + 10.0, process.worker)
        process.signal(signal.SIGTERM)


def _restart(scenario: Scenario, chance: Random) -> None:
    scenario.touch("restart", scenario.plan.workers * (scenario.options.grace_s + 10.0))
    chance.choice(scenario.fleet.hosts).restart()


def _slow(scenario: Scenario, chance: Random) -> None:
    if process := _someone(scenario, chance):
        loop, seconds = process.node.loop, chance.uniform(1.0, 10.0)
        loop.slow_s = chance.choice([0.005, 0.05])
        scenario.world.note(process.node.name, "slow", f"{loop.slow_s} for {seconds:.3f}")
        scenario.touch("slow", seconds + 1.0, process.node.name)
        scenario.world.call_later(seconds, lambda: setattr(loop, "slow_s", 0.0))


def _cut(server: str) -> Callable[[Scenario, Random], None]:
    def act(scenario: Scenario, chance: Random) -> None:
        if process := _someone(scenario, chance):
            link = scenario.links.get(process.worker, {}).get(server)
            if link is not None:
                seconds = chance.choice([1.0, 5.0, 15.0]) * chance.random()
                if server == "redis":
                    _touch_if_long(scenario, "cut", seconds + scenario.settings.redis_timeout_s, process.node.name)
                link.cut(seconds, chance.choice(["in", "out", "both"]))

    return act


def _redis_down(scenario: Scenario, chance: Random) -> None:
    redis, seconds = scenario.redis, chance.choice([1.0, 12.0]) * chance.random()
    scenario.world.note("redis", "down", f"{seconds:.3f}")
    _touch_if_long(scenario, "redis down", seconds + scenario.settings.redis_timeout_s)
    redis.stop_answering()
    scenario.world.call_later(seconds, lambda: setattr(redis, "down", False))


def _redis_frozen(scenario: Scenario, chance: Random) -> None:
    redis, seconds = scenario.redis, chance.choice([1.0, 12.0]) * chance.random()
    scenario.world.note("redis", "frozen", f"{seconds:.3f}")
    _touch_if_long(scenario, "redis frozen", seconds + scenario.settings.redis_timeout_s)
    redis.frozen_until = max(redis.frozen_until, scenario.world.now + seconds)


def _redis_loss(scenario: Scenario, chance: Random) -> None:
    scenario.touch("loss", scenario.settings.lease_s)
    scenario.redis.flush()


def _redis_back(scenario: Scenario, chance: Random) -> None:
    """A failover: what was written in the last moments before it is not there any more."""
    redis, world = scenario.redis, scenario.world
    snapshot, seconds = redis.snapshot(), chance.choice([0.05, 1.0, 10.0]) * chance.random()

    def fail_over() -> None:
        scenario.touch("back in time", scenario.settings.lease_s)
        redis.restore(snapshot)

    world.call_later(seconds, fail_over)


def _gap(scenario: Scenario, chance: Random) -> None:
    """All pub/sub connections break."""
    scenario.world.note("redis", "disconnects its listeners")
    scenario.redis.disconnect()


def _kafka_down(scenario: Scenario, chance: Random) -> None:
    kafka, seconds = scenario.kafka, chance.choice([1.0, 15.0]) * chance.random()
    scenario.world.note("kafka", "down", f"{seconds:.3f}")
    kafka.down = True
    scenario.world.call_later(seconds, lambda: setattr(kafka, "down", False))


def _kafka_frozen(scenario: Scenario, chance: Random) -> None:
    kafka, seconds = scenario.kafka, chance.choice([1.0, 15.0]) * chance.random()
    scenario.world.note("kafka", "frozen", f"{seconds:.3f}")
    kafka.frozen_until = max(kafka.frozen_until, scenario.world.now + seconds)


def _coordinator_down(scenario: Scenario, chance: Random) -> None:
    seconds = chance.uniform(0.1, 10.0)
    scenario.world.note("kafka", "no coordinator", f"{seconds:.3f}")
    scenario.kafka.coordinator_down_until = scenario.world.now + seconds


def _leader_gone(scenario: Scenario, chance: Random) -> None:
    partition = chance.choice(sorted(scenario.kafka.logs))
    seconds = chance.uniform(0.1, 8.0)
    scenario.world.note("kafka", "no leader", f"{partition[0]}/{partition[1]} {seconds:.3f}")
    scenario.kafka.logs[partition].leaderless_until = scenario.world.now + seconds


def _rebalances(scenario: Scenario, chance: Random) -> None:
    for _ in range(chance.randrange(1, 5)):
        scenario.world.call_later(chance.uniform(0, 4), scenario.kafka.group(scenario.names.group).rebalance)


def _more_partitions(scenario: Scenario, chance: Random) -> None:
    topic = scenario.names.tasks("default")
    scenario.kafka.provision(topic, scenario.kafka.partitions[topic] + 1)


def _weather(server: str) -> Callable[[Scenario, Random], None]:
    def act(scenario: Scenario, chance: Random) -> None:
        place = scenario.redis if server == "redis" else scenario.kafka
        seconds = chance.uniform(1.0, 10.0)
        trip_s = place.weather.trip_s
        place.weather = Weather(
            trip_s,
            lose_question=chance.choice([0.0, 0.02, 0.1]),
            lose_answer=chance.choice([0.0, 0.02, 0.1]),
            slow=chance.choice([0.0, 0.1]),
            slow_s=chance.choice([0.2, 2.0]),
        )
        scenario.world.note(server, "bad weather", f"{place.weather.bad:.2f} for {seconds:.3f}")
        if server == "redis":
            scenario.touch("weather", seconds + scenario.settings.redis_timeout_s + 2.0)
        scenario.world.call_later(seconds, lambda: setattr(place, "weather", Weather(trip_s)))

    return act


def _topic_again(scenario: Scenario, chance: Random) -> None:
    scenario.touch("topic made again", 10.0)
    scenario.kafka.make_again(scenario.names.tasks("default"))


def _doubles(scenario: Scenario, chance: Random) -> None:
    weather, seconds = scenario.kafka.weather, chance.uniform(1.0, 10.0)
    scenario.world.note("kafka", "doubles appends", f"for {seconds:.3f}")
    weather.double = chance.choice([0.05, 0.5])
    scenario.world.call_later(seconds, lambda: setattr(weather, "double", 0.0))


def _foreign_records(scenario: Scenario, chance: Random) -> None:
    scenario.foreign(chance)


KINDS = (
    Kind("kill", _kill, 3.0),
    Kind("freeze", _freeze, 2.0),
    Kind("drain", _drain, 2.0),
    Kind("restart", _restart, 0.3),
    Kind("kill-supervisor", _kill_supervisor, 0.5),
    Kind("freeze-supervisor", _freeze_supervisor),
    Kind("slow", _slow),
    Kind("cut-redis", _cut("redis"), 2.0),
    Kind("cut-kafka", _cut("kafka"), 2.0),
    Kind("redis-down", _redis_down),
    Kind("redis-frozen", _redis_frozen),
    Kind("redis-loss", _redis_loss),
    Kind("redis-back", _redis_back),
    Kind("redis-gap", _gap),
    Kind("redis-weather", _weather("redis"), 2.0),
    Kind("kafka-down", _kafka_down),
    Kind("kafka-frozen", _kafka_frozen),
    Kind("kafka-weather", _weather("kafka"), 2.0),
    Kind("coordinator-down", _coordinator_down),
    Kind("leader-gone", _leader_gone),
    Kind("rebalances", _rebalances),
    Kind("more-partitions", _more_partitions, 0.5),
    Kind("foreign-records", _foreign_records),
    Kind("doubled-appends", _doubles),
    Kind("topic-made-again", _topic_again, 0.2),
    Kind("damaged-state", lambda scenario, chance: scenario.damage(chance), 0.3),
    Kind("kill-client", lambda scenario, chance: scenario.kill_client(chance), 0.2),
    Kind("kill-child", lambda scenario, chance: scenario.kill_child(chance)),
)


def draw_kinds(chance: Random) -> tuple[Kind, ...]:
    """Few kinds a seed meet each other more often than all at once would (swarm testing)."""
    usual = [kind for kind in KINDS if kind.usual]
    return tuple(chance.sample(usual, chance.randrange(0, 7)))
