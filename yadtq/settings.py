"""Everything that can be set, with its default, its unit and its bounds; the only reader of the environment.

A setting comes from a keyword, else from `YADTQ_<NAME>` (worker settings from `YADTQ_WORKER_<NAME>`, supervisor
settings from `YADTQ_SUPERVISOR_<NAME>`), else from the default here. Unknown `YADTQ_*` variables are an error: a
misspelt setting that is silently ignored would only be noticed in production.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from yadtq.errors import ConfigError
from yadtq.shown import shown, shown_address, shown_value

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Settings", "SupervisorSettings", "WorkerSettings"]

#: Variables with our prefix that other parts read: tests, and what a supervisor passes to its workers.
_FOREIGN = ("YADTQ_TEST_", "YADTQ_SLOT", "YADTQ_PIPE")


#: Variables that Kubernetes sets in every container for a Service whose name begins with "yadtq": addresses, not
#: settings.
_KUBERNETES = re.compile(
    r"YADTQ(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"YADTQ(_\w+)?_PORT=(tcp|udp|sctp)://.*")
#: Seconds and counts above this are mistakes, and would overflow as milliseconds: 31 years.
_MOST = 1e9
#: Values that may contain a password, and must not appear in messages.
_SECRET = frozenset({"redis"})


class _Base(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: object) -> object:
        if isinstance(value, int | float) and value > _MOST:
            raise ValueError(f"at most {_MOST:,.0f}")
        return value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, shown_address(value) if name in _SECRET and isinstance(value, str) else value

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Build from keywords (None means: not given), environment and defaults. Raises a one-line `ConfigError`."""
        _refuse_unknown_variables()
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            prefix = str(cls.model_config.get("env_prefix", ""))
            problems = []
            for problem in error.errors():
                name = ".".join(str(part) for part in problem["loc"])
                where = f"{name} ({prefix}{name.upper()})" if name else "settings"
                value = str(problem["input"])
                got = (
                    ""
                    if name in _SECRET or "://" in value or "@" in value
                    else f", got {shown_value(problem['input'])}"
                )
                text = problem["msg"].removeprefix("Value error, ")
                problems.append(f"{where}: {text}{got}" if name else text)
            raise ConfigError("; ".join(problems)) from None
        except SettingsError as error:
            raise ConfigError(str(error).splitlines()[0]) from None


class Settings(_Base):
    """What clients and workers share."""

    model_config = SettingsConfigDict(env_prefix="YADTQ_", frozen=True, extra="forbid")

    kafka: str = Field("localhost:9092", description="bootstrap servers, host:port separated by commas")
    redis: str = Field("redis://localhost:6379/0", description="redis://, rediss:// or unix:// URL")

    num_partitions: int = Field(4, ge=1, le=10_000, description="least partitions of a task topic; never shrinks one")
    replication_factor: int | None = Field(None, ge=1, description="of new topics; none: 3, or all brokers if fewer")

    connect_timeout_s: float = Field(10.0, gt=0, description="first contact with Kafka or Redis")
    submit_timeout_s: float = Field(15.0, gt=0, description="until a submit is acknowledged")
    redis_timeout_s: float = Field(5.0, gt=0, description="one round trip to Redis")
    kafka_request_timeout_s: float = Field(12.0, gt=0, description="one round trip to Kafka")

    result_ttl_s: int = Field(86_400, ge=60, description="how long a final state and result are kept")
    queued_ttl_s: int = Field(7 * 86_400, ge=60, description="how long the state of an unfinished task is kept")

    max_task_bytes: int = Field(1_000_000, ge=1_000, description="encoded task; Kafka's own default limit is 1,048,588")
    max_result_bytes: int = Field(8_000_000, ge=100, description="encoded result")
    compress_over_bytes: int = Field(4_096, ge=64, description="results over this are deflated")
    max_pending_submits: int = Field(20_000, ge=1, description="submits waiting at once in one client")

    lease_s: float = Field(7.0, ge=1, description="a worker that is silent for this long loses its tasks")
    heartbeat_s: float = Field(1.0, gt=0, description="between heartbeats and lease renewals")
    session_timeout_s: float = Field(7.0, ge=1, description="Kafka's limit for a silent worker; brokers allow >= 6")

    @field_validator("kafka")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            host, colon, port = address.strip().rpartition(":")
            if not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError(f"expected host:port, or several separated by commas; {_told(address)} is neither")
        return value

    @field_validator("redis")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError:
            raise ValueError("expected a URL like redis://host:6379/0") from None
        if url.scheme == "unix":
            if not url.path:
                raise ValueError("expected a URL like unix:///path/of/the/socket?db=0")
        elif url.scheme not in ("redis", "rediss") or not url.hostname or port == 0:
            raise ValueError("expected a URL like redis://host:6379/0")
        # Anything but a number would mean database 0.
        elif url.path not in ("", "/") and not re.fullmatch(r"/\d{1,5}", url.path):
            raise ValueError("expected the number of a database at the end, as in redis://host:6379/0")
        if any(not number.isdigit() for number in parse_qs(url.query, keep_blank_values=True).get("db", ())):
            raise ValueError("expected the number of a database after db=")
        return value

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least three times heartbeat_s ({self.heartbeat_s:g}): "
                "a lease has to survive two lost heartbeats"
            )
        return self


class WorkerSettings(_Base):
    """One worker process."""

    model_config = SettingsConfigDict(env_prefix="YADTQ_WORKER_", frozen=True, extra="forbid")

    concurrency: int = Field(100, ge=1, le=100_000, description="tasks running at once")
    threads: int = Field(32, ge=1, le=1_000, description="sync tasks running at once")
    queues: Annotated[tuple[str, ...], NoDecode] = Field(("default",), min_length=1)

    window: int = Field(
        4_000,
        ge=10,
        description="records that run or could run, at most; 64 a partition at least; ten times as many may wait",
    )
    span: int = Field(20_000, ge=10, description="offsets from the watermark to the newest record of a partition")
    straggler_age_s: float = Field(3_600.0, gt=0, description="a record held longer is moved to the partition's tail")
    commit_interval_s: float = Field(0.5, gt=0)
    truncate_interval_s: float = Field(300.0, gt=0, description="between truncations behind the watermark; see groups")
    other_groups: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="consumer groups that must also have read what is truncated"
    )

    grace_s: float = Field(30.0, ge=0, description="for running tasks after SIGTERM")
    loop: Literal["asyncio", "uvloop"] = Field("asyncio", description="event loop; uvloop comes with yadtq[fast]")
    lifespan_timeout_s: float = Field(60.0, gt=0, description="for the app's lifespan to open what tasks share")
    unknown_task_window_s: float = Field(30.0, ge=0, description="unknown task names wait so long for a deploy")
    crash_limit: int = Field(
        25, ge=1, description="deaths of workers under one task that no chance explains: it goes to the dead letters"
    )
    block_limit_s: float = Field(60.0, gt=0, description="a loop blocked for longer ends its process (exit status 70)")

    @field_validator("queues", "other_groups", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class SupervisorSettings(_Base):
    """One supervisor process and its worker slots."""

    model_config = SettingsConfigDict(env_prefix="YADTQ_SUPERVISOR_", frozen=True, extra="forbid")

    workers: int = Field(2, ge=0, le=1_000)
    backoff_s: float = Field(0.5, ge=0, description="before a respawn that follows another crash; the first is at once")
    backoff_cap_s: float = Field(30.0, ge=0)
    crash_budget: int = Field(10, ge=1, description="crashes of one slot within crash_window_s before it is given up")
    crash_window_s: float = Field(120.0, gt=0)
    start_timeout_s: float = Field(30.0, gt=0, description="until a new worker's first heartbeat")
    silence_s: float = Field(15.0, gt=0, description="a worker silent on pipe and topic for so long is killed")
    grace_s: float = Field(35.0, ge=0, description="for workers to drain before they are killed; above theirs")


def _refuse_unknown_variables() -> None:
    known = {
        f"{model.model_config['env_prefix']}{name}".upper()
        for model in (Settings, WorkerSettings, SupervisorSettings)
        for name in model.model_fields
    }
    for variable in os.environ:
        if not variable.startswith("YADTQ_") or variable in known or variable.startswith(_FOREIGN):
            continue
        if not (_KUBERNETES.fullmatch(variable) or _KUBERNETES_PORT.fullmatch(f"{variable}={os.environ[variable]}")):
            close = difflib.get_close_matches(variable, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"unknown environment variable {shown(variable)}{hint}")


def _told(address: str) -> str:
    return "a value with a password" if "@" in address else shown_value(address)
