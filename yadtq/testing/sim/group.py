"""The coordinator of a consumer group: members, generations, rebalances that take their time.

Eager, as aiokafka's assignors are: each join makes all members give up their partitions and join again. A static member
that comes back under its name takes its place over, and nobody else notices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from yadtq.runtime.seams import Partition
    from yadtq.testing.sim.net import Link
    from yadtq.testing.sim.world import World

__all__ = ["Group", "Member"]

#: Members learn of a rebalance by their next heartbeat.
HEARTBEAT_S = 0.3
_LOOK_S = 0.5
#: What a new group waits for further members, and what the leader needs to deal the partitions out.
_INITIAL_S = 0.2
_SYNC_S = 0.03
_METADATA_S = 3.0


class Cluster(Protocol):
    """What a coordinator asks of its brokers."""

    world: World
    on_commit: list[Callable[[Mapping[Partition, int]], None]]

    @property
    def coordinating(self) -> bool: ...

    def partitions_of(self, topics: Iterable[str]) -> list[Partition]: ...


class Joiner(Protocol):
    """The consumer at the other end, which is told of what the coordinator decides."""

    link: Link
    topics: Collection[str]
    instance_id: str | None
    session_timeout_s: float

    def on_rebalance(self, member: Member) -> None: ...

    def on_gone(self, member: Member) -> None: ...

    def on_topics(self) -> None: ...

    def on_sync(self, member: Member, generation: int, assignment: tuple[Partition, ...]) -> None: ...


class Member:
    """One process's place in the group, until it is replaced, evicted, or leaves."""

    def __init__(self, consumer: Joiner, heard_at: float) -> None:
        self.consumer = consumer
        self.instance = consumer.instance_id
        self.heard_at = heard_at
        self.joined = False  # for the generation that is being prepared
        self.gone = False
        self.assignment: tuple[Partition, ...] = ()


class Group:
    """committed: offsets by partition."""

    def __init__(self, kafka: Cluster, name: str) -> None:
        self._kafka = kafka
        self._world = kafka.world
        self.name = name
        self.generation = 0
        self.preparing = False
        self.syncing = False
        self.members: list[Member] = []
        self.committed: dict[Partition, int] = {}
        self.rebalances = 0
        self._round = 0
        self._looking = False

    # Requests: each in one step

    def join(self, consumer: Joiner, member: Member | None) -> Member:
        """A member is told by `consumer.assigned` when the generation is complete."""
        if member is not None and not member.gone:
            member.joined = True
            if not self.preparing:
                self._prepare()
                member.joined = True
            self._complete_if_all()
            return member
        new = Member(consumer, self._world.now)
        self._look()
        old = next((each for each in self.members if new.instance is not None and each.instance == new.instance), None)
        if old is not None:
            old.gone = True
            self.members[self.members.index(old)] = new
            self._tell_gone(old)
            if not self.preparing and not self.syncing and old.consumer.topics == consumer.topics:
                new.assignment = old.assignment
                self._assign(new)
                return new
        else:
            self.members.append(new)
        if not self.preparing:
            self._prepare()
        new.joined = True
        self._complete_if_all()
        return new

    def leave(self, member: Member) -> None:
        if not member.gone:
            self._evict(member)
            self._prepare()

    def leave_by_instance(self, instances: Sequence[str]) -> None:
        leavers = [member for member in self.members if member.instance in instances]
        for member in leavers:
            self._evict(member)
        if leavers:
            self._prepare()

    def commit(self, member: Member, generation: int, offsets: Mapping[Partition, int]) -> bool:
        """Only of a member, and in its generation."""
        if member.gone or generation != self.generation or self.syncing:
            return False
        member.heard_at = self._world.now
        for hear in self._kafka.on_commit:
            hear(offsets)
        self.committed.update(offsets)
        return True

    def topic_grew(self, topic: str) -> None:
        if any(topic in member.consumer.topics for member in self.members):
            self._prepare()

    def topic_made_again(self, topic: str) -> None:
        """Offsets go with their topic. Members find out with their next look at the topics."""
        for partition in [each for each in self.committed if each[0] == topic]:
            del self.committed[partition]
        for member in self.members:
            self._world.call_later(_METADATA_S * self._world.rng.random(), member.consumer.on_topics)

    # Rebalances

    def rebalance(self) -> None:
        """For a reason of the coordinator's own."""
        if self.members:
            self._prepare()

    def _prepare(self) -> None:
        for member in self.members:
            member.joined = False
        if not self.members:
            self.preparing = False
            return
        self.rebalances += 1
        self._round += 1
        self.preparing, self.syncing = True, False
        self._world.note("kafka", "rebalance", f"{self.name} {len(self.members)} members")
        chance = self._world.rng.random
        for member in self.members:
            self._world.call_later(HEARTBEAT_S * chance(), _Notice(self, member, self._round))
        number = self._round
        self._world.call_later(self._kafka_session_s, lambda: self._give_up_waiting(number))

    @property
    def _kafka_session_s(self) -> float:
        return max(member.consumer.session_timeout_s for member in self.members)

    def _give_up_waiting(self, number: int) -> None:
        if self.preparing and number == self._round:
            if not self._kafka.coordinating:
                self._world.call_later(0.5, lambda: self._give_up_waiting(number))
                return
            for member in [each for each in self.members if not each.joined]:
                self._evict(member)
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if self.preparing and self.members and all(member.joined for member in self.members):
            self.preparing, self.syncing = False, True
            self.generation += 1
            number, chance = self._round, self._world.rng.random
            wait_s = _INITIAL_S if self.generation == 1 else 0.0
            self._world.call_later(wait_s + _SYNC_S * chance(), lambda: self._deal(number))

    def _deal(self, number: int) -> None:
        if number != self._round or not self.syncing:
            return  # another rebalance has begun
        self.syncing = False
        deal: dict[int, list[Partition]] = {id(member): [] for member in self.members}
        topics = {topic for each in self.members for topic in each.consumer.topics}
        for turn, partition in enumerate(self._kafka.partitions_of(topics)):
            takers = [member for member in self.members if partition[0] in member.consumer.topics]
            deal[id(takers[turn % len(takers)])].append(partition)
        for member in self.members:
            member.assignment = tuple(deal[id(member)])
            self._assign(member)

    def _assign(self, member: Member) -> None:
        """Each learns of it at its own time."""
        consumer, assignment, generation = member.consumer, member.assignment, self.generation
        self._world.note("kafka", "assigned", f"{consumer.link.node.name} {[number for _, number in assignment]}")

        def arrive() -> None:
            if member.assignment is not assignment:
                return  # an answer that was held up so long that a newer one has come
            if consumer.link.up:
                consumer.on_sync(member, generation, assignment)
            elif consumer.link.node.alive and not member.gone:
                self._world.call_later(0.1, arrive)

        self._world.call_later(consumer.link.trip(), arrive)

    def _evict(self, member: Member) -> None:
        member.gone = True
        self.members.remove(member)
        self._tell_gone(member)

    def _tell_gone(self, member: Member) -> None:
        """It learns so at its next heartbeat, when it can be reached again."""
        link = member.consumer.link

        def tell() -> None:
            if not link.node.alive:
                return
            if link.up and self._kafka.coordinating:
                member.consumer.on_gone(member)
            else:
                self._world.call_later(HEARTBEAT_S, tell)

        self._world.call_later(HEARTBEAT_S * self._world.rng.random(), tell)

    # Sessions

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            self._world.call_later(_LOOK_S, self._look_at_sessions)

    def _look_at_sessions(self) -> None:
        """Instead of an event for each heartbeat: who can be heard is known."""
        now = self._world.now
        coordinating = self._kafka.coordinating
        expired = []
        for member in self.members:
            if member.consumer.link.up or not coordinating:
                member.heard_at = now
            elif now - member.heard_at > member.consumer.session_timeout_s:
                expired.append(member)
        for member in expired:
            self._world.note("kafka", "session over", member.consumer.link.node.name)
            self._evict(member)
        if expired:
            self._prepare()
        if self.members:
            self._world.call_later(_LOOK_S, self._look_at_sessions)
        else:
            self._looking = False


class _Notice:
    """A member's heartbeat is answered: a rebalance is under way."""

    def __init__(self, group: Group, member: Member, number: int) -> None:
        self._group, self._member, self._number = group, member, number

    def __call__(self) -> None:
        group, member = self._group, self._member
        if member.gone or member.joined or self._number != group._round or not group.preparing:
            return
        if member.consumer.link.up and group._kafka.coordinating:
            member.consumer.on_rebalance(member)
        elif member.consumer.link.node.alive:
            group._world.call_later(HEARTBEAT_S, self)
