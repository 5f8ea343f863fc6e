"""One consumer group in memory, as a coordinator of Kafka keeps it. Pure: no loop, and time is an argument.

The eager protocol: a change of membership makes the group PREPARING; every member has to give all its partitions up and
rejoin, or to miss its session time-out; then all partitions are dealt out again under the next generation. A static
member that comes back under its instance id takes its old place, and nobody else notices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from yadtq.runtime.seams import Partition

__all__ = ["Beat", "Committed", "Group", "Member"]


class Beat(Enum):
    """The coordinator's answer to a heartbeat."""

    FINE = "fine"
    REJOIN = "rejoin"  # a rebalance is under way: give everything up and rejoin
    UNKNOWN = "unknown"  # evicted, or fenced by another process with the same instance id


class Committed(NamedTuple):
    """An offset, and the identity of the log that it belongs to ("": not said)."""

    offset: int
    log_id: str = ""


@dataclass(slots=True)
class Member:
    """deadline: until the next sign of life. ready: has rejoined since the rebalance began."""

    id: str
    topics: frozenset[str]
    instance_id: str | None
    session_s: float
    deadline: float
    ready: bool = True
    assigned: tuple[Partition, ...] = ()


@dataclass(slots=True)
class Group:
    """committed survives all members."""

    generation: int = 0
    preparing: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    committed: dict[Partition, Committed] = field(default_factory=dict)

    def join(
        self, now: float, member_id: str, topics: Iterable[str], *, instance_id: str | None, session_s: float
    ) -> bool:
        """Under a new member id. True: it has its place at once, that of the static member it follows."""
        wanted = frozenset(topics)
        before = self._holder(instance_id)
        if before is not None:
            # In its place, not at the end: the deal depends on the order.
            new = Member(member_id, wanted, instance_id, session_s, now + session_s, assigned=before.assigned)
            self.members = {new.id if key == before.id else key: each for key, each in self.members.items()}
            self.members[new.id] = new
            if before.topics == wanted and not self.preparing:
                return True
        else:
            self.members[member_id] = Member(member_id, wanted, instance_id, session_s, now + session_s)
        self.prepare(but=member_id)
        return False

    def _holder(self, instance_id: str | None) -> Member | None:
        if instance_id is None:
            return None
        return next((each for each in self.members.values() if each.instance_id == instance_id), None)

    def prepare(self, *, but: str | None = None) -> None:
        """Begin a rebalance, or go on with one. but: a member that has just joined."""
        if not self.preparing:
            for member in self.members.values():
                member.ready = member.id == but
        elif but is not None:
            self.members[but].ready = True
        self.preparing = True

    def beat(self, now: float, member_id: str) -> Beat:
        member = self.members.get(member_id)
        if member is None:
            return Beat.UNKNOWN
        member.deadline = now + member.session_s
        return Beat.REJOIN if self.preparing and not member.ready else Beat.FINE

    def rejoin(self, now: float, member_id: str) -> None:
        """It has given its partitions up."""
        if (member := self.members.get(member_id)) is not None:
            member.deadline = now + member.session_s
            member.ready = True

    def leave(self, member_id: str) -> None:
        """A static member only goes quiet: its place is kept until its session ends."""
        member = self.members.get(member_id)
        if member is not None and member.instance_id is None:
            del self.members[member_id]
            self.prepare()

    def remove(self, instance_ids: Collection[str]) -> None:
        """LeaveGroup by instance ids: static members that nobody follows."""
        self._drop([each.id for each in self.members.values() if each.instance_id in instance_ids])

    def expire(self, now: float) -> None:
        """Drop members whose sessions have ended."""
        self._drop([each.id for each in self.members.values() if each.deadline < now])

    def _drop(self, member_ids: Collection[str]) -> None:
        for member_id in member_ids:
            del self.members[member_id]
        if member_ids:
            self.prepare()

    def complete(self, partitions: Iterable[Partition]) -> bool:
        """Deal the partitions out, round-robin, if a rebalance is under way and all members are ready for it."""
        if not self.preparing or not all(member.ready for member in self.members.values()):
            return False
        self.preparing = False
        self.generation += 1
        members = list(self.members.values())
        deal: dict[str, list[Partition]] = {member.id: [] for member in members}
        for turn, partition in enumerate(sorted(partitions)):
            takers = [member for member in members if partition[0] in member.topics]
            if takers:
                deal[takers[turn % len(takers)].id].append(partition)
        for member in members:
            member.assigned = tuple(deal[member.id])
        return True

    def commit(self, member_id: str, generation: int, offsets: Mapping[Partition, Committed]) -> bool:
        """Fenced: only by a member, and under the generation in which it was given its partitions."""
        if member_id not in self.members or generation != self.generation:
            return False
        self.committed.update(offsets)
        return True
