"""Makes a supervisor from what its process is given. No I/O: it does the same on real servers and on doubles."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from yadtq.supervisor.supervisor import Supervisor, SupervisorParts
from yadtq.supervisor.twins import Twins, new_supervisor_id
from yadtq.supervisor.undertaker import Undertaker
from yadtq.supervisor.watch import LivenessTable, TopicWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from yadtq.outside import Outside
    from yadtq.runtime.seams import Producer
    from yadtq.settings import Settings, SupervisorSettings
    from yadtq.supervisor.seams import Slots, Spawn

__all__ = ["Assembled", "assemble", "connected"]

#: Timeout of an append: a late canary or announcement is useless.
_APPEND_S = 5.0


class Assembled(NamedTuple):
    """producer: shared by the parts; `connected` starts it."""

    supervisor: Supervisor
    producer: Producer


def assemble(
    settings: Settings,
    own: SupervisorSettings,
    outside: Outside,
    *,
    spawn: Spawn,
    slots: Slots,
    starts_at_once: int = 4,
) -> Assembled:
    """The supervisor and its parts, none of them started yet."""
    producer = outside.broker.producer(timeout_s=_APPEND_S)
    table = LivenessTable(
        clock=outside.clock,
        heartbeat_s=settings.heartbeat_s,
        silence_s=own.silence_s,
        start_timeout_s=own.start_timeout_s,
    )
    twins = Twins(
        prefix=slots.prefix,
        supervisor=new_supervisor_id(outside.clock, outside.chance),
        clock=outside.clock,
        heartbeat_s=settings.heartbeat_s,
    )
    parts = SupervisorParts(
        spawn=spawn,
        slots=slots,
        table=table,
        twins=twins,
        undertaker=Undertaker(outside=outside, settings=settings, producer=producer),
        watch=TopicWatch(
            outside=outside, heartbeat_s=settings.heartbeat_s, producer=producer, table=table, twins=twins
        ),
    )
    return Assembled(Supervisor(own=own, parts=parts, outside=outside, starts_at_once=starts_at_once), producer)


@asynccontextmanager
async def connected(outside: Outside, producer: Producer, queues: Collection[str]) -> AsyncIterator[None]:
    """Both servers reached and the topics provisioned: without either, no worker could start.

    Raises `BrokerUnavailable`, `StoreUnavailable`, `TopicMismatch`.
    """
    await outside.broker.provision(queues)
    async with AsyncExitStack() as cleanup:
        cleanup.push_async_callback(outside.store.aclose)
        await outside.store.start()
        cleanup.push_async_callback(producer.stop)
        await producer.start()
        yield
