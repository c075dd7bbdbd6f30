"""What the processes of svc-messaging are told by their environment; read in `__main__` only."""

import uuid
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from kit.settings import Port, ServiceSettings, Settings, StreamSettings, shared

_PREFIX = "AEROSTIC_MESSAGING_"

Count = Annotated[int, Field(ge=1, le=1024)]
Days = Annotated[int, Field(ge=0, le=36_500)]


def _days_or_never(least: int) -> AfterValidator:
    def check(days: int) -> int:
        if 0 < days < least:
            raise ValueError(f"must be 0 or at least {least}")
        return days

    return AfterValidator(check)


def _tenant_or_none(text: str) -> str:
    if not text:
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ValueError("must be the id of a tenant (a UUID), or empty") from None


Connections = Annotated[int, Field(ge=2, le=200)]


class MigrateSettings(Settings):
    """For `migrate`, which needs the schema's owner and nothing else."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    owner_database_url: SecretStr = Field(description="PostgreSQL URL of the role messaging_owner")


class RedriveSettings(StreamSettings):
    """For `redrive`, which needs the worker's role and the streams."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    worker_database_url: SecretStr = Field(description="PostgreSQL URL of the role messaging_worker")


class ProcessSettings(ServiceSettings):
    """What all three processes have."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    database_connections: Connections = Field(10, description="Most connections to PostgreSQL")
    host: str = Field("127.0.0.1", description="Address that the process listens on")
    tenants_target: str = shared(
        "AEROSTIC_TENANTS_TARGET", default="127.0.0.1:9102", description="host:port of svc-tenants"
    )
    send_partitions: Count = shared(
        "AEROSTIC_SEND_PARTITIONS",
        default=8,
        description="Partitions of the stream SEND; the same in every process, changed only while nothing is queued",
    )


class ServeSettings(ProcessSettings):
    """For `serve`."""

    database_url: SecretStr = Field(description="PostgreSQL URL of the role messaging_app")
    port: Port = Field(9103, description="gRPC")
    metrics_port: Port = Field(9203, description="GET /metrics, /healthz, /readyz")
    auth_target: str = shared(
        "AEROSTIC_AUTH_TARGET",
        default="127.0.0.1:9101",
        description="host:port of svc-auth: the keys of access tokens",
    )
    number_queue_max: Annotated[int, Field(ge=1)] = Field(
        10_000, description="Messages that may wait per number; more are refused as SEND_QUEUE_FULL"
    )


class WorkerSettings(ProcessSettings):
    """What inbox and sender have."""

    worker_database_url: SecretStr = Field(description="PostgreSQL URL of the role messaging_worker")

    tenant: Annotated[str, AfterValidator(_tenant_or_none)] = Field(
        "", description="Id of the tenant that this process works for alone; empty: for all that share their workers"
    )


class InboxSettings(WorkerSettings):
    """For `inbox`."""

    metrics_port: Port = Field(9205, description="GET /metrics, /healthz, /readyz")
    request_ids_keep_days: Days = Field(
        30, description="Days for which a repeated request id is recognized; 0: for ever"
    )
    # Meta repeats a webhook for 7 days, and the journal may be replayed.
    wamids_keep_days: Annotated[Days, _days_or_never(30)] = Field(
        180,
        description="Days for which Meta's ids of messages are known: for repeated webhooks, quotes, reactions and late"
        " statuses. 30 at least; 0: for ever",
    )
    settled_keep_days: Days = Field(
        30, description="Days that parked events stay visible after they were settled; 0: for ever"
    )
    parked_keep_days: Days = Field(0, description="Days that parked events wait for somebody; 0: for ever")
    # As long as Meta keeps its own copy, a file can be had again.
    media_keep_days: Annotated[Days, _days_or_never(8)] = Field(
        0, description="Days that the bytes of files are kept. 8 at least; 0: for ever"
    )
    # A message may be delivered 30 days after it was sent, and its status must find it.
    messages_keep_days: Annotated[Days, _days_or_never(30)] = Field(
        0,
        description="Days that messages are kept, with their files and all that hangs on them; conversations and"
        " contacts stay. 30 at least; 0: for ever",
    )
    meta_partitions: Count = shared(
        "AEROSTIC_META_PARTITIONS",
        default=1,
        description="Partitions of the stream META; the same in every process, changed only while nothing is queued",
    )


class SenderSettings(WorkerSettings):
    """For `sender`."""

    metrics_port: Port = Field(9206, description="GET /metrics, /healthz, /readyz")
    graph_url: str = Field(
        "https://graph.facebook.com", pattern=r"^https?://", description="Meta's Graph API, or the emulator"
    )
    graph_version: str = Field("v24.0", pattern=r"^v[0-9]{1,3}\.0$", description="Version of the Graph API")
