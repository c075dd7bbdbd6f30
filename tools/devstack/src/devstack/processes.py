"""The table of what runs: every deployable with its command, environment, ports, readiness and needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Given to every process of the product, when set.
SHARED = (
    "AEROSTIC_ENVIRONMENT",
    "AEROSTIC_LOG_LEVEL",
    "AEROSTIC_LOG_FORMAT",
    "AEROSTIC_OTLP_ENDPOINT",
    "AEROSTIC_TRACE_SAMPLE_RATIO",
    "AEROSTIC_NATS_URL",
    "AEROSTIC_META_KEEP_DAYS",
    "AEROSTIC_META_BYTES_MAX",
    "AEROSTIC_EVENTS_KEEP_DAYS",
    "AEROSTIC_DEAD_KEEP_DAYS",
    "AEROSTIC_STREAM_REPLICAS",
    "AEROSTIC_META_PARTITIONS",
    "AEROSTIC_SEND_PARTITIONS",
    "AEROSTIC_SERVICE_TRUST",
)
_AUTH, _TENANTS, _MESSAGING = "AEROSTIC_AUTH_TARGET", "AEROSTIC_TENANTS_TARGET", "AEROSTIC_MESSAGING_TARGET"


@dataclass(frozen=True)
class Process:
    """One deployable.

    `environment`: name it reads → setting of the stack that holds the value. Of other settings under its `prefix` it
    gets those that `.env` or the environment set. `ready`: how to see that it works, on the port in setting `port`.
    """

    name: str
    command: tuple[str, ...]
    prefix: str
    port: str
    ready: Literal["grpc", "http", "tcp"]
    environment: Mapping[str, str]
    listens: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    shared: bool = True
    migrates: str | None = field(default=None)


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


PROCESSES: tuple[Process, ...] = (
    Process(
        name="meta-emulator",
        command=("meta_emulator",),
        prefix="AEROSTIC_EMULATOR_",
        port="AEROSTIC_EMULATOR_PORT",
        ready="tcp",
        environment=_same(
            "AEROSTIC_EMULATOR_PORT",
            "AEROSTIC_EMULATOR_APP_ID",
            "AEROSTIC_EMULATOR_APP_SECRET",
            "AEROSTIC_EMULATOR_VERIFY_TOKEN",
            "AEROSTIC_EMULATOR_CALLBACK_URL",
            "AEROSTIC_EMULATOR_STATE_FILE",
        ),
        shared=False,
    ),
    Process(
        name="svc-auth",
        command=("svc_auth", "serve"),
        prefix="AEROSTIC_AUTH_",
        port="AEROSTIC_AUTH_PORT",
        ready="grpc",
        environment=_same(
            "AEROSTIC_AUTH_PORT",
            "AEROSTIC_AUTH_METRICS_PORT",
            "AEROSTIC_AUTH_DATABASE_URL",
            "AEROSTIC_AUTH_KEY_ENCRYPTION_KEYS",
            _TENANTS,
        ),
        listens=("AEROSTIC_AUTH_METRICS_PORT",),
        needs=("nats",),
        migrates="auth",
    ),
    Process(
        name="svc-tenants",
        command=("svc_tenants", "serve"),
        prefix="AEROSTIC_TENANTS_",
        port="AEROSTIC_TENANTS_PORT",
        ready="grpc",
        environment=_same(
            "AEROSTIC_TENANTS_PORT",
            "AEROSTIC_TENANTS_METRICS_PORT",
            "AEROSTIC_TENANTS_DATABASE_URL",
            "AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS",
            "AEROSTIC_TENANTS_GRAPH_URL",
            "AEROSTIC_TENANTS_APP_ID",
            "AEROSTIC_TENANTS_APP_SECRET",
            _AUTH,
            _MESSAGING,
        ),
        listens=("AEROSTIC_TENANTS_METRICS_PORT",),
        needs=("nats",),
        migrates="tenants",
    ),
    Process(
        name="messaging-server",
        command=("svc_messaging", "serve"),
        prefix="AEROSTIC_MESSAGING_",
        port="AEROSTIC_MESSAGING_PORT",
        ready="grpc",
        environment=_same(
            "AEROSTIC_MESSAGING_PORT",
            "AEROSTIC_MESSAGING_METRICS_PORT",
            "AEROSTIC_MESSAGING_DATABASE_URL",
            _AUTH,
            _TENANTS,
        ),
        listens=("AEROSTIC_MESSAGING_METRICS_PORT",),
        needs=("nats",),
        migrates="messaging",
    ),
    Process(
        name="messaging-inbox",
        command=("svc_messaging", "inbox"),
        prefix="AEROSTIC_MESSAGING_",
        port="AEROSTIC_INBOX_METRICS_PORT",
        ready="http",
        environment={
            "AEROSTIC_MESSAGING_METRICS_PORT": "AEROSTIC_INBOX_METRICS_PORT",
            **_same("AEROSTIC_MESSAGING_WORKER_DATABASE_URL", _TENANTS),
        },
        needs=("nats", "messaging-migrations"),
    ),
    Process(
        name="messaging-sender",
        command=("svc_messaging", "sender"),
        prefix="AEROSTIC_MESSAGING_",
        port="AEROSTIC_SENDER_METRICS_PORT",
        ready="http",
        environment={
            "AEROSTIC_MESSAGING_METRICS_PORT": "AEROSTIC_SENDER_METRICS_PORT",
            **_same("AEROSTIC_MESSAGING_WORKER_DATABASE_URL", "AEROSTIC_MESSAGING_GRAPH_URL", _TENANTS),
        },
        needs=("nats", "messaging-migrations"),
    ),
    Process(
        name="webhooks-ingest",
        command=("svc_webhooks", "ingest"),
        prefix="AEROSTIC_WEBHOOKS_",
        port="AEROSTIC_WEBHOOKS_PORT",
        ready="http",
        environment=_same("AEROSTIC_WEBHOOKS_PORT", "AEROSTIC_WEBHOOKS_APP_SECRETS", "AEROSTIC_WEBHOOKS_VERIFY_TOKEN"),
        needs=("nats",),
    ),
    Process(
        name="gateway",
        command=("gateway", "serve"),
        prefix="AEROSTIC_GATEWAY_",
        port="AEROSTIC_GATEWAY_PORT",
        ready="http",
        environment=_same("AEROSTIC_GATEWAY_PORT", "AEROSTIC_GATEWAY_INGEST_URL", _AUTH, _TENANTS, _MESSAGING),
        needs=("svc-auth", "svc-tenants", "messaging-server", "webhooks-ingest"),
    ),
)

# What `SERVICES=` selects: the engines and migrations come along.
GROUPS: dict[str, tuple[str, ...]] = {
    "core": tuple(process.name for process in PROCESSES),
    "all": tuple(process.name for process in PROCESSES),
}
