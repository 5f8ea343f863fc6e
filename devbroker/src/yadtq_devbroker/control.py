"""A client of the broker's control channel (`--control host:port`): faults that a test can ask for and wait for.

The channel obeys those who know its token, which the broker is given in its environment (DEVBROKER_CONTROL_TOKEN).

Each call is a connection of its own, so a `BrokerControl` needs no closing and outlives restarts of the broker; the
faults do not, they are gone with the broker's process. Kinds of requests and errors have the Kafka protocol's names:
`Produce`, `Fetch`, `OffsetCommit`, `JoinGroup`; `NOT_COORDINATOR`, `REQUEST_TIMED_OUT`.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BrokerControl", "ControlError", "Fault"]


class ControlError(Exception):
    """The broker refused a command, or could not be asked; the message says which and why."""


class Fault:
    """A fault that was asked for. It stays known after its last hit, until it is removed or all are cleared."""

    def __init__(self, control: BrokerControl, fault_id: int) -> None:
        self._control = control
        self.id = fault_id

    async def hits(self) -> int:
        """How many requests have met it so far."""
        return await self._ask("hits")

    async def wait(self, hits: int = 1, *, timeout: float = 10.0) -> int:
        """Wait until so many requests have met it; returns how many did. TimeoutError after `timeout` seconds."""
        met = await self._ask("wait", hits=hits, seconds=timeout, deadline=timeout + self._control.timeout)
        if met < hits:
            raise TimeoutError(f"fault {self.id} met {met} of {hits} requests in {timeout:g} s")
        return met

    async def remove(self) -> None:
        await self._ask("remove")

    async def _ask(self, op: str, *, deadline: float | None = None, **fields: object) -> int:
        answer = await self._control.ask(op, {"id": self.id, **fields}, deadline=deadline)
        return int(answer["hits"])


class BrokerControl:
    """Injects faults into a devbroker.

    address: the control channel's "host:port". token: the broker's DEVBROKER_CONTROL_TOKEN. timeout: seconds for each
    command.
    """

    def __init__(self, address: str, token: str, *, timeout: float = 5.0) -> None:
        self.address = address
        self._token = token
        self.timeout = timeout

    async def fail(
        self,
        kind: str | Sequence[str] = (),
        error: str = "REQUEST_TIMED_OUT",
        *,
        count: int | None = 1,
        topic: str | None = None,
        partitions: Sequence[int] = (),
        group: str | None = None,
        nodes: Sequence[int] = (),
        applied: bool = False,
        top_level: bool = False,
    ) -> Fault:
        """Answer the next `count` requests (None: all, until cleared) of these kinds (none: any) with an error.

        applied: the broker does the work and answers the error nevertheless. kfake decides that by kind and error, as
        Kafka does: REQUEST_TIMED_OUT to a Produce, an OffsetCommit or an admin request is applied, anything else is
        not; `applied` must agree, so that a test says what it means.
        topic, partitions, group: only these; a request that carries none of them is never met. top_level: set the
        response's own error code instead of that of its entities.
        """
        fields = {"error": error, "topic": topic or "", "partitions": list(partitions), "group": group or ""}
        return await self._install("fail", kind, count, nodes, applied=applied, top_level=top_level, **fields)

    async def drop(self, kind: str | Sequence[str] = (), *, count: int | None = 1, nodes: Sequence[int] = ()) -> Fault:
        """Close the connection on a request, undone and unanswered: to the client it may have been done."""
        return await self._install("drop", kind, count, nodes)

    async def delay(
        self, kind: str | Sequence[str], seconds: float, *, count: int | None = 1, nodes: Sequence[int] = ()
    ) -> Fault:
        """Let a request wait before it is handled, and with it all that follow on its connection."""
        return await self._install("delay", kind, count, nodes, seconds=seconds)

    async def clear(self) -> None:
        """Remove all faults. Leaders and coordinators stay where they were moved."""
        await self.ask("clear")

    async def leader(self, topic: str, partition: int) -> int:
        """The node that leads the partition."""
        return await self._node("leader", topic=topic, partition=partition)

    async def move_leader(self, topic: str, partition: int, node: int | None = None) -> int:
        """Make another node (None: the next one) lead the partition; returns it."""
        return await self._node("move_leader", topic=topic, partition=partition, node=-1 if node is None else node)

    async def coordinator(self, group: str) -> int:
        """The node that coordinates the group (or transactional id)."""
        return await self._node("coordinator", group=group)

    async def move_coordinator(self, group: str) -> int:
        """Give the group another coordinator, and maybe other groups too; returns it. Needs two brokers."""
        return await self._node("move_coordinator", group=group)

    async def compact(self) -> None:
        """Compact all compacted topics now."""
        await self.ask("compact")

    async def apply_retention(self) -> None:
        """Enforce retention.ms and retention.bytes now."""
        await self.ask("apply_retention")

    async def ask(
        self, op: str, fields: Mapping[str, object] | None = None, *, deadline: float | None = None
    ) -> dict[str, Any]:
        """Send one command as it is; returns the broker's answer. deadline: seconds, default `timeout`."""
        host, _, port = self.address.rpartition(":")
        try:
            async with asyncio.timeout(self.timeout if deadline is None else deadline):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    writer.write(json.dumps({"op": op, "token": self._token, **(fields or {})}).encode() + b"\n")
                    line = await reader.readline()
                finally:
                    writer.close()
        except OSError as exc:  # TimeoutError is one
            raise ControlError(f"{op}: no answer from the control channel at {self.address}: {exc!r}") from exc
        if not line:
            raise ControlError(f"{op}: the broker closed the control channel at {self.address}")
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise ControlError(f"{op}: {answer['error']}")
        return answer

    async def _install(
        self, op: str, kind: str | Sequence[str], count: int | None, nodes: Sequence[int], **fields: object
    ) -> Fault:
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, or None for all: {count}")
        kinds = [kind] if isinstance(kind, str) else list(kind)
        selected = {"kinds": kinds, "nodes": list(nodes), "count": -1 if count is None else count}
        return Fault(self, int((await self.ask(op, {**selected, **fields}))["id"]))

    async def _node(self, op: str, **fields: object) -> int:
        return int((await self.ask(op, fields))["node"])
