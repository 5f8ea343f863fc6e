"""Every error YADTQ raises, in one tree: catch `YadtqError` for all, or a branch.

    YadtqError
    ├── ConfigError              a setting, task definition or topic is wrong: fix it, a retry won't help
    │   ├── UnknownTask            no task of that name in the registry
    │   ├── TopicMismatch          the cluster's topics contradict what YADTQ needs
    │   └── StoreRefused           Redis refuses this account, or lacks a command: the message says which right is missing
    ├── SubmitError              a submit did not (surely) happen
    │   ├── InvalidArguments       the arguments don't fit the task's signature; nothing was sent
    │   ├── PayloadTooLarge        the encoded task is over the limit; nothing was sent
    │   ├── SubmitOverloaded       too many submits are waiting; nothing was sent
    │   ├── SubmitRefused          Kafka refused the task; nothing was stored
    │   └── SubmitUncertain        the deadline passed before an acknowledgement; submit the same id again
    ├── ResultError              a result could not be had
    │   ├── TaskFailed             the task ended FAILED; carries its error
    │   ├── TaskCancelled          the task ended CANCELLED
    │   ├── TaskNotFound           Redis knows nothing of this id (never submitted, or expired)
    │   ├── ResultLost             Redis lost its data while the result was awaited
    │   └── ResultUnreadable       damaged, over max_result_bytes, or of another version of the task
    ├── EnvelopeError            a record is not a task: undecodable, wrong version, wrong field
    ├── BrokerUnavailable        Kafka did not answer in time
    ├── BrokerRefused            Kafka refused records permanently; none of them was stored
    ├── StoreUnavailable         Redis did not answer in time
    ├── ServiceFailed            a background service of this process failed; it is started again
    ├── LifespanFailed           what the tasks of an app share could not be opened: its worker ends
    ├── TaskTimeout              stored as the error of a task whose `timeout` ran out
    ├── Retry                    raised by a task: run me again
    └── Discard                  raised by a task: no further attempt
        └── ResultTooLarge         stored as the error of a task that returned too much

Messages are one line and say what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "BrokerRefused",
    "BrokerUnavailable",
    "ConfigError",
    "Discard",
    "EnvelopeError",
    "InvalidArguments",
    "LifespanFailed",
    "PayloadTooLarge",
    "ResultError",
    "ResultLost",
    "ResultTooLarge",
    "ResultUnreadable",
    "Retry",
    "ServiceFailed",
    "StoreRefused",
    "StoreUnavailable",
    "SubmitError",
    "SubmitOverloaded",
    "SubmitRefused",
    "SubmitUncertain",
    "TaskCancelled",
    "TaskFailed",
    "TaskNotFound",
    "TaskTimeout",
    "TopicMismatch",
    "UnknownTask",
    "YadtqError",
]

#: Of a task's message, in ours.
_LINE_CHARS = 1_000

_YEAR_S = 31_536_000
#: In `StoreRefused.refused`: the login itself.
CONNECT = "connect"
#: The least rights of an account on Redis, for all apps: as in docs/how-to/tls.md.
REDIS_RIGHTS = (
    "~yadtq:* &yadtq:* +ping +select +eval +evalsha +time +set +mget +del +expire +rename +hset "
    "+hsetnx +hget +hmget +hgetall +hexists +hdel +publish +subscribe +unsubscribe"
)


class YadtqError(Exception):
    """Root of everything YADTQ raises. Survives pickling, with its attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt by calling the class with `args`, the message; ours take what the message is made of.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[YadtqError], args: tuple[Any, ...], attributes: dict[str, Any]) -> YadtqError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigError(YadtqError):
    """A setting or a definition is wrong; trying again will not help."""


class UnknownTask(ConfigError):
    """No task of this name is registered."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"unknown task {name!r}: this app has {listed}; import the module that defines it")


class TopicMismatch(ConfigError):
    """A topic exists, but not as YADTQ needs it; the message names the topic and the difference."""


class StoreRefused(ConfigError):
    """Redis refuses this account something that YADTQ needs; trying again will not help.

    refused: commands and what Redis said of each; `CONNECT` if it let nobody in.
    """

    def __init__(self, app: str, refused: list[tuple[str, str]]) -> None:
        self.refused = refused
        listed = "; ".join(text if command == CONNECT else f"{command}: {text}" for command, text in refused)
        if any(command == CONNECT for command, _ in refused):
            advice = "see redis_user, redis_password (YADTQ_REDIS_USER, YADTQ_REDIS_PASSWORD)"
            super().__init__(f"Redis refused the login: {listed}; {advice}")
            return
        rights = REDIS_RIGHTS.replace("yadtq:", f"yadtq:{{{app}}}:")
        super().__init__(
            f"Redis refuses what YADTQ needs ({listed}): give the user {rights} (ACL SETUSER), or see redis_user "
            "(YADTQ_REDIS_USER)"
        )


class SubmitError(YadtqError):
    """A submit did not, or did not surely, happen."""


class InvalidArguments(SubmitError):
    """The arguments do not fit the task's signature. Nothing was sent."""

    def __init__(self, task: str, problem: str) -> None:
        self.task = task
        super().__init__(f"invalid arguments for task {task!r}: {problem}")


class PayloadTooLarge(SubmitError):
    """The encoded task is larger than `max_task_bytes`. Nothing was sent."""

    def __init__(self, task: str, size: int, limit: int) -> None:
        self.task, self.size, self.limit = task, size, limit
        super().__init__(
            f"task {task!r} is {size} bytes encoded, the limit is {limit}: pass a reference to the data, "
            "or raise max_task_bytes here and max.message.bytes on the topic"
        )


class SubmitOverloaded(SubmitError):
    """`max_pending_submits` submits are waiting already, and none finished within the deadline. Nothing was sent."""


class SubmitRefused(SubmitError):
    """Kafka refused the tasks with these `task_ids` permanently. None of them was stored; others of the call are
    queued.
    """

    def __init__(self, task_ids: list[str], reason: str) -> None:
        self.task_ids, self.reason = task_ids, reason
        self.task_id = task_ids[0]
        more = f" and {len(task_ids) - 1} more" if len(task_ids) > 1 else ""
        super().__init__(f"Kafka refused task {self.task_id}{more}, nothing was stored: {reason}")


class SubmitUncertain(SubmitError):
    """The deadline passed before Kafka acknowledged: the task may or may not be queued.

    `task_ids` are the ids in doubt. Submitting again with the same id is always safe: it never runs a task twice.
    """

    def __init__(self, task_ids: list[str], deadline_s: float, reason: str) -> None:
        self.task_ids = task_ids
        self.task_id = task_ids[0]
        more = f" and {len(task_ids) - 1} more" if len(task_ids) > 1 else ""
        super().__init__(
            f"no acknowledgement for task {self.task_id}{more} within {deadline_s:g} s ({reason}): "
            "submit again with the same id, which never runs it twice"
        )


class ResultError(YadtqError):
    """A result could not be had."""


class TaskFailed(ResultError):
    """The task ended FAILED. Attributes say what the last attempt raised."""

    def __init__(self, task_id: str, error_type: str, message: str, traceback: str = "", attempt: int = 0) -> None:
        self.task_id, self.error_type, self.message = task_id, error_type, message
        self.traceback, self.attempt = traceback, attempt
        first_line, _, more = message.partition("\n")
        # The attributes are as they were raised; the message is one printable line, whoever wrote them.
        said = f"{shown(error_type)}: {shown(first_line, _LINE_CHARS)}{' ...' if more else ''}"
        super().__init__(f"task {shown(task_id)} failed on attempt {attempt}: {said}")
        if traceback:  # shown below an exception that nobody catches
            frames = "\n".join(shown(line, _LINE_CHARS) for line in traceback.splitlines())
            self.add_note(f"in the worker, on attempt {attempt}:\n{frames}")


class TaskCancelled(ResultError):
    """The task ended CANCELLED."""


class TaskNotFound(ResultError):
    """Redis knows nothing of this id: never submitted, or its result has expired."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"nothing is known of task {task_id}: never submitted to this app, or its result has expired")


class ResultLost(ResultError):
    """Redis lost its data while this result was awaited, and the task will not be run again: its result is gone."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(
            f"the result of task {task_id} was lost with Redis's data: submit it again under a new id if you need it"
        )


class ResultUnreadable(ResultError):
    """What Redis holds of the task can't be read: it is damaged, or larger than `max_result_bytes`.

    Or it is the result of another version of the task than this process has.
    """

    def __init__(self, task_id: str, problem: str) -> None:
        self.task_id, self.problem = task_id, problem
        super().__init__(f"what Redis holds of task {task_id} can't be read: {problem}")


class EnvelopeError(YadtqError):
    """A record's bytes are not a task. The message says which field, and goes to the dead-letter topic with them."""


class BrokerUnavailable(YadtqError):
    """Kafka did not answer within the deadline.

    Of an append: `uncertain` has the indices of records that may or may not be stored (None: any of them), `refused`
    those that are known not to be, with the reason. All others are stored.
    """

    def __init__(
        self,
        message: str,
        *,
        uncertain: Collection[int] | None = None,
        refused: Mapping[int, str] | None = None,
    ) -> None:
        self.uncertain = None if uncertain is None else frozenset(uncertain)
        self.refused = dict(refused or {})
        super().__init__(message)


class BrokerRefused(YadtqError):
    """Kafka refused records permanently: none of them is stored, and the same bytes would be refused again.

    `refused` has their indices in the append, with the reason; `too_large` those of which less might be accepted. All
    other records of the append are stored.
    """

    def __init__(self, message: str, refused: Mapping[int, str], too_large: Collection[int] = ()) -> None:
        self.refused, self.too_large = dict(refused), frozenset(too_large)
        super().__init__(message)


class StoreUnavailable(YadtqError):
    """Redis did not answer within the deadline, or answered with any error."""


class ServiceFailed(YadtqError):
    """A background service of this process failed. Calls that wait for it raise this; it is started again
    automatically.
    """

    def __init__(self, service: str, reason: str) -> None:
        self.service = service
        super().__init__(f"service {service!r} failed: {reason}; it is started again, so ask again")


class LifespanFailed(YadtqError):
    """Raised by a worker: the lifespan of its app has failed, or has ended before the worker. opened: whether it had
    been open.
    """

    def __init__(self, app: str, reason: str, *, opened: bool) -> None:
        self.app, self.reason, self.opened = app, reason, opened
        what = "failed while tasks ran" if opened else "could not be opened"
        super().__init__(f"the lifespan of app {app!r} {what}: {reason}")


class TaskTimeout(YadtqError):
    """Stored as the error of a task whose `timeout` ran out."""


class Retry(YadtqError):
    """Raise inside a task to be run again: `raise Retry("not ready yet", delay=5)`. Also within an exception group.

    delay: seconds until the next attempt, a year at most; None takes the task's back-off. Counts against `retries`; for
    a task with `retries=0` up to 100 attempts. Raises `ConfigError` for a delay that is no such number: like any other
    error of the task, it uses up one of its retries.
    """

    def __init__(self, reason: str = "retry asked for", *, delay: float | None = None) -> None:
        self.delay = None if delay is None else self.checked(delay)
        super().__init__(reason)

    @staticmethod
    def checked(delay: Any) -> float:
        """A delay in seconds. Raises `ConfigError`."""
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= _YEAR_S:
            what = f"{delay}" if isinstance(delay, int | float) and abs(delay) < 1e15 else f"a {type(delay).__name__}"
            raise ConfigError(f"Retry(delay=...) takes seconds, from 0 to {_YEAR_S:,}, not {what}")
        return float(delay)


class Discard(YadtqError):
    """Raise inside a task to fail it at once, with no further attempt. Also within an exception group."""


class ResultTooLarge(Discard):
    """Stored as the error of a task whose encoded result is over `max_result_bytes`."""
