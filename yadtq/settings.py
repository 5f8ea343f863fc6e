"""Everything that can be set, with its default, its unit and its bounds.

A setting comes from a keyword, else from `YADTQ_<NAME>` (worker settings from `YADTQ_WORKER_<NAME>`, supervisor
settings from `YADTQ_SUPERVISOR_<NAME>`), else from the default here. A secret may also come from the file that
`YADTQ_<NAME>_FILE` names. `environment.py` reads all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypedDict

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from yadtq.connections import Connections
from yadtq.environment import EnvironmentSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ClientOptions", "Settings", "SettingsOptions", "SupervisorSettings", "WorkerSettings"]


class ClientOptions(TypedDict, total=False):
    """The keywords of `YADTQClient`, for type checkers: those of `Settings`. None is the same as left out."""

    kafka: str | None
    redis: str | None
    kafka_tls: bool | None
    kafka_ca_file: str | None
    kafka_cert_file: str | None
    kafka_key_file: str | None
    kafka_key_password: str | SecretStr | None
    kafka_server_name: str | None
    kafka_check_hostname: bool | None
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None
    kafka_user: str | None
    kafka_password: str | SecretStr | None
    kafka_token: Callable[[], Awaitable[str]] | None
    redis_user: str | None
    redis_password: str | SecretStr | None
    redis_credentials: object
    redis_ca_file: str | None
    redis_cert_file: str | None
    redis_key_file: str | None
    redis_key_password: str | SecretStr | None
    redis_server_name: str | None
    redis_check_hostname: bool | None
    replication_factor: int | None
    connect_timeout_s: float | None
    submit_timeout_s: float | None
    redis_timeout_s: float | None
    kafka_request_timeout_s: float | None
    result_ttl_s: int | None
    queued_ttl_s: int | None
    max_task_bytes: int | None
    max_result_bytes: int | None
    compress_over_bytes: int | None
    max_pending_submits: int | None
    lease_s: float | None
    heartbeat_s: float | None
    session_timeout_s: float | None


class SettingsOptions(ClientOptions, total=False):
    """The keywords of `Yadtq`."""

    num_partitions: int | None


class Settings(Connections):
    """What clients and workers share."""

    model_config = SettingsConfigDict(env_prefix="YADTQ_", frozen=True, extra="forbid")

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

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least three times heartbeat_s ({self.heartbeat_s:g}): "
                "a lease has to survive two lost heartbeats"
            )
        return self


class WorkerSettings(EnvironmentSettings):
    """One worker process."""

    model_config = SettingsConfigDict(env_prefix="YADTQ_WORKER_", frozen=True, extra="forbid")

    concurrency: int = Field(100, ge=1, le=100_000, description="tasks running at once")
    threads: int = Field(32, ge=1, le=1_000, description="sync tasks running at once")
    queues: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="the queues to consume, comma-separated; none: those that the app's tasks name, and default"
    )

    window: int = Field(
        4_000,
        ge=10,
        description="records that run or could run, at most; 64 a partition at least; ten times as many may wait",
    )
    window_bytes: int = Field(
        256 * 1024 * 1024, ge=1, description="bytes of records that run or wait; a fetch may bring a little more"
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
    log_tasks: bool = Field(False, description="log the start and the end of each attempt, a line each")
    lifespan_timeout_s: float = Field(60.0, gt=0, description="for the app's lifespan to open what tasks share")
    unknown_task_window_s: float = Field(
        300.0, ge=0, description="a task that only other code knows waits so long for a deploy; 0: it fails at once"
    )
    crash_limit: int = Field(
        25, ge=1, description="deaths of workers under one task that no chance explains: it goes to the dead letters"
    )
    block_limit_s: float = Field(60.0, gt=0, description="a loop blocked for longer ends its process (exit status 70)")

    @field_validator("queues", "other_groups", mode="before")
    @classmethod
    def _split(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        if not parts and info.field_name == "queues":
            raise ValueError("expected at least one name")
        return parts


class SupervisorSettings(EnvironmentSettings):
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
