"""YADTQ: an asyncio-native distributed task queue. Kafka carries every task, Redis answers every question about it."""

from yadtq.app import Yadtq
from yadtq.client.client import Client
from yadtq.context import TaskContext
from yadtq.errors import (
    BrokerUnavailable,
    ConfigError,
    Discard,
    InvalidArguments,
    ResultLost,
    Retry,
    StoreUnavailable,
    SubmitUncertain,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    UnknownTask,
    YadtqError,
)
from yadtq.handle import TaskHandle
from yadtq.task import Task
from yadtq.wire.states import TaskStatus

__all__ = [
    "BrokerUnavailable",
    "Client",
    "ConfigError",
    "Discard",
    "InvalidArguments",
    "ResultLost",
    "Retry",
    "StoreUnavailable",
    "SubmitUncertain",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "TaskStatus",
    "UnknownTask",
    "Yadtq",
    "YadtqError",
]
