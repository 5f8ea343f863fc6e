"""What a worker process gets from its supervisor: by environment, since a command line can be read by all users."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["Inherited", "handed_on"]

_NAMES = {
    "slot": "YADTQ_SLOT",
    "worker": "YADTQ_SLOT_WORKER",
    "supervisor": "YADTQ_SLOT_SUPERVISOR",
    "secret": "YADTQ_SLOT_SECRET",
    "lock": "YADTQ_SLOT_LOCK",
    "pipe": "YADTQ_PIPE",
}


#: Servers that a command line has named: they go before what the code of the app says, in all processes under it.
_KAFKA, _REDIS = "YADTQ_SLOT_KAFKA", "YADTQ_SLOT_REDIS"


class Servers(TypedDict):
    """Settings, as keywords of `Yadtq.configure`."""

    kafka: str | None
    redis: str | None


def handed_on(environ: MutableMapping[str, str], *, kafka: str | None = None, redis: str | None = None) -> Servers:
    """The servers that a process is told to use: by its own command line, else by that of its parent.

    Puts them into `environ`, from which its children get them: a URL may contain a password, and all users can read a
    command line.
    """
    for variable, value in ((_KAFKA, kafka), (_REDIS, redis)):
        if value is not None:
            environ[variable] = value
    return {"kafka": environ.get(_KAFKA), "redis": environ.get(_REDIS)}


class Inherited(NamedTuple):
    """All are empty without a supervisor.

    slot: the static membership id. worker: the id of this process. supervisor: its id. secret: seals the heartbeats,
    new for each process. lock: the file descriptor that keeps the slot. pipe: two descriptors, to read from and to
    write to.
    """

    slot: str = ""
    worker: str = ""
    supervisor: str = ""
    secret: str = ""
    lock: str = ""
    pipe: str = ""

    def __repr__(self) -> str:
        return f"<Inherited {self.worker or 'nothing'}>"

    def environment(self) -> dict[str, str]:
        """What to add to the environment of the worker."""
        return {_NAMES[name]: value for name, value in self._asdict().items()}

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Inherited:
        """Read it from `os.environ`, and remove it there: a process that a task starts must not know the secret."""
        return cls(**{name: environ.pop(variable, "") for name, variable in _NAMES.items()})
