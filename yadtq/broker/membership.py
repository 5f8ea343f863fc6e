"""Removing static members from a consumer group at once, when nobody will come back under their names.

A static member (`group_instance_id`) keeps its partitions through a restart, and through its death until the session
timeout. So a process that knows that a member will not return has to remove it, or its partitions are idle for that
long. LeaveGroup takes an instance id from version 3 on (KIP-345); aiokafka speaks version 1, hence the declarations
here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import GroupIdNotFound, KafkaError, NoError, UnknownMemberIdError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from yadtq.broker.aiokafka_life import connected, may_pass, stopped
from yadtq.broker.connecting import connection_options
from yadtq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.settings import Settings

__all__ = ["leave_group"]

log = logging.getLogger("yadtq.broker")

_RETRY_S = 0.1
_STOP_S = 2.0
#: A member or a group that does not exist has left: success.
_GONE = (NoError, UnknownMemberIdError, GroupIdNotFound)


class _LeaveGroupResponseV3(Response):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")), ("error_code", Int16)),
        ),
    )


class _LeaveGroupRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveGroupResponseV3
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("members", Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))),
    )


class _LeaveGroupRequest(Request[_LeaveGroupRequestV3]):  # type: ignore[misc]
    API_KEY = 13

    def __init__(self, group: str, instance_ids: Sequence[str]) -> None:
        self._group, self._instance_ids = group, instance_ids

    def build(self, request_struct_class: type[_LeaveGroupRequestV3]) -> _LeaveGroupRequestV3:
        # An empty member id means: whichever process holds this instance id now.
        return request_struct_class(self._group, [("", instance_id) for instance_id in self._instance_ids])


class _Refused(KafkaError):  # type: ignore[misc]
    """The coordinator kept some members."""


async def leave_group(
    settings: Settings, group: str, instance_ids: Sequence[str], *, timeout_s: float | None = None
) -> None:
    """Take these static members out of `group`; ids that are not in it are fine. Others get their partitions at once.

    timeout_s: None takes `connect_timeout_s`. Raises `BrokerUnavailable` after it; then they go with their sessions.
    """
    left = list(instance_ids)
    if not left:
        return
    seconds = settings.connect_timeout_s if timeout_s is None else timeout_s
    what = f"{', '.join(left)} could not be removed from group {group}"
    deadline = asyncio.get_running_loop().time() + seconds
    client = await connected(lambda: AIOKafkaClient(**connection_options(settings)), seconds, what)
    try:
        async with asyncio.timeout_at(deadline):
            while left:
                left = await _attempt(client, group, left)
    except TimeoutError:
        raise BrokerUnavailable(f"{what}: no answer within {seconds:g} s") from None
    except (KafkaError, OSError, NotImplementedError) as error:
        raise BrokerUnavailable(f"{what}: {str(error) or type(error).__name__}") from error
    finally:
        await stopped(client, _STOP_S)


async def _attempt(client: AIOKafkaClient, group: str, instance_ids: list[str]) -> list[str]:
    """Returns the ids for which another try is due, a moment later. Raises errors that a retry can't fix."""
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        left = _check(await client.send(node, _LeaveGroupRequest(group, instance_ids)))
    except (KafkaError, OSError) as error:
        if not may_pass(error):  # a broker too old for version 3, or a refused authorization
            raise
        log.debug("%s could not leave yet: %s", instance_ids, error)
        left = instance_ids
    if left:
        await asyncio.sleep(_RETRY_S)
    return left


def _check(response: Any) -> list[str]:
    kind = for_code(response.error_code)
    if kind not in _GONE:
        raise kind()
    if kind is not NoError:
        return []
    left: list[str] = []
    for _member_id, instance_id, code in response.members:
        member_error = for_code(code)
        if member_error in _GONE:
            continue
        if not member_error.retriable:
            raise _Refused(f"{instance_id}: {member_error.__name__}")
        log.debug("%s is asked to leave again: %s", instance_id, member_error.__name__)
        left.append(instance_id)
    return left
