"""The settings of a stack, as one flat table of AEROSTIC_* names.

Later sources win: defaults, ports chosen free (for stacks side by side), generated secrets, `.env`, the environment,
and what a caller passes. What can be derived from the others (addresses, the list of trusted keys) is derived last
and only where nobody has set it.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from devstack.generated import key_bytes
from devstack.ports import LOOPBACK
from kit.service_tokens import ServiceIdentity

PREFIX = "AEROSTIC_"

DEFAULTS: dict[str, str] = {
    # Shared by all processes.
    "AEROSTIC_ENVIRONMENT": "development",
    "AEROSTIC_LOG_LEVEL": "info",
    "AEROSTIC_LOG_FORMAT": "console",
    # Ports, all on loopback.
    "AEROSTIC_GATEWAY_PORT": "8080",
    "AEROSTIC_EMULATOR_PORT": "8090",
    "AEROSTIC_AUTH_PORT": "9101",
    "AEROSTIC_TENANTS_PORT": "9102",
    "AEROSTIC_MESSAGING_PORT": "9103",
    "AEROSTIC_WEBHOOKS_PORT": "9104",
    "AEROSTIC_AUTH_METRICS_PORT": "9201",
    "AEROSTIC_TENANTS_METRICS_PORT": "9202",
    "AEROSTIC_MESSAGING_METRICS_PORT": "9203",
    "AEROSTIC_INBOX_METRICS_PORT": "9205",
    "AEROSTIC_SENDER_METRICS_PORT": "9206",
    "AEROSTIC_POSTGRES_PORT": "55432",
    "AEROSTIC_NATS_PORT": "54222",
    "AEROSTIC_NATS_MONITORING_PORT": "58222",
    # The demo workspace.
    "AEROSTIC_DEMO_EMAIL": "demo@aerostic.example",
    "AEROSTIC_SUPER_ADMIN_EMAIL": "root@aerostic.example",
    "AEROSTIC_META_APP_ID": "100000000000001",
}

# Names under these are passed to their process, which knows and checks them.
KNOWN_PREFIXES = (
    *("AEROSTIC_AUTH_", "AEROSTIC_TENANTS_", "AEROSTIC_MESSAGING_", "AEROSTIC_WEBHOOKS_"),
    *("AEROSTIC_GATEWAY_", "AEROSTIC_EMULATOR_"),
)
SHARED_OPTIONAL = frozenset(
    {
        "AEROSTIC_OTLP_ENDPOINT",
        "AEROSTIC_TRACE_SAMPLE_RATIO",
        "AEROSTIC_META_KEEP_DAYS",
        "AEROSTIC_META_BYTES_MAX",
        "AEROSTIC_EVENTS_KEEP_DAYS",
        "AEROSTIC_DEAD_KEEP_DAYS",
        "AEROSTIC_STREAM_REPLICAS",
        "AEROSTIC_META_PARTITIONS",
        "AEROSTIC_SEND_PARTITIONS",
    }
)
# Process name → setting that holds its key.
SERVICE_KEYS = {
    "svc-auth": "AEROSTIC_SVC_AUTH_SERVICE_KEY",
    "svc-tenants": "AEROSTIC_SVC_TENANTS_SERVICE_KEY",
    "messaging-server": "AEROSTIC_MESSAGING_SERVER_SERVICE_KEY",
    "messaging-inbox": "AEROSTIC_MESSAGING_INBOX_SERVICE_KEY",
    "messaging-sender": "AEROSTIC_MESSAGING_SENDER_SERVICE_KEY",
    "gateway": "AEROSTIC_GATEWAY_SERVICE_KEY",
}

_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$")


class SettingsRefused(RuntimeError):
    """A setting is unknown or makes no sense; the text names it and where it stands."""


def read_env_file(path: Path) -> dict[str, str]:
    """AEROSTIC_* lines of an `.env` file: NAME=value, optionally quoted; `#` begins a comment."""
    values: dict[str, str] = {}
    if not path.exists():
        return values
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise SettingsRefused(f"{path.name} line {number} is not NAME=value.")
        if match[1].startswith(PREFIX):
            values[match[1]] = _unquoted(match[2])
    return values


def resolve(
    *,
    folder: Path,
    secrets: Mapping[str, str],
    overrides: Mapping[str, str],
    free_port: Callable[[], int] | None = None,
) -> dict[str, str]:
    """The whole table of a stack in `folder`.

    `free_port` replaces every default port; `overrides` come from `.env` and the environment.
    """
    values = dict(DEFAULTS)
    if free_port is not None:
        values |= {name: str(free_port()) for name in DEFAULTS if name.endswith("_PORT")}
    values |= secrets
    values |= overrides
    for name in (name for name in DEFAULTS if name.endswith("_PORT")):
        _check_port(name, values[name])
    derived = {**_derived(values), "AEROSTIC_EMULATOR_STATE_FILE": str(folder / "data" / "emulator" / "state.json")}
    _refuse_unknown(overrides, {*DEFAULTS, *secrets, *derived})
    return derived | values


def _unquoted(text: str) -> str:
    for quote in ("'", '"'):
        if len(text) > 1 and text[0] == quote and (end := text.find(quote, 1)) > 0:
            return text[1:end]
    return re.split(r"\s+#", text, maxsplit=1)[0].strip()


def _refuse_unknown(overrides: Mapping[str, str], known: Collection[str]) -> None:
    for name in overrides:
        if name not in known and name not in SHARED_OPTIONAL and not name.startswith(KNOWN_PREFIXES):
            raise SettingsRefused(f"{name} is not a setting; see .env.example.")


def _check_port(name: str, value: str) -> None:
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise SettingsRefused(f"{name} must be a port between 1 and 65535, not {value!r}.")


def _derived(values: Mapping[str, str]) -> dict[str, str]:
    def database(service: str, role: str) -> str:
        password = values[f"AEROSTIC_ROLE_PASSWORD_{service.upper()}_{role.upper()}"]
        return f"postgresql://{service}_{role}:{password}@{LOOPBACK}:{values['AEROSTIC_POSTGRES_PORT']}/{service}"

    def address(prefix: str) -> str:
        return f"{LOOPBACK}:{values[f'AEROSTIC_{prefix}_PORT']}"

    graph = f"http://{address('EMULATOR')}"
    return {
        "AEROSTIC_NATS_URL": f"nats://aerostic:{values['AEROSTIC_NATS_PASSWORD']}@{address('NATS')}",
        "AEROSTIC_AUTH_TARGET": address("AUTH"),
        "AEROSTIC_TENANTS_TARGET": address("TENANTS"),
        "AEROSTIC_MESSAGING_TARGET": address("MESSAGING"),
        "AEROSTIC_SERVICE_TRUST": _trust(values),
        "AEROSTIC_AUTH_DATABASE_URL": database("auth", "app"),
        "AEROSTIC_AUTH_OWNER_DATABASE_URL": database("auth", "owner"),
        "AEROSTIC_TENANTS_DATABASE_URL": database("tenants", "app"),
        "AEROSTIC_TENANTS_OWNER_DATABASE_URL": database("tenants", "owner"),
        "AEROSTIC_MESSAGING_DATABASE_URL": database("messaging", "app"),
        "AEROSTIC_MESSAGING_OWNER_DATABASE_URL": database("messaging", "owner"),
        "AEROSTIC_MESSAGING_WORKER_DATABASE_URL": database("messaging", "worker"),
        "AEROSTIC_TENANTS_GRAPH_URL": graph,
        "AEROSTIC_MESSAGING_GRAPH_URL": graph,
        "AEROSTIC_TENANTS_APP_ID": values["AEROSTIC_META_APP_ID"],
        "AEROSTIC_TENANTS_APP_SECRET": values["AEROSTIC_META_APP_SECRET"],
        "AEROSTIC_WEBHOOKS_APP_SECRETS": values["AEROSTIC_META_APP_SECRET"],
        "AEROSTIC_WEBHOOKS_VERIFY_TOKEN": values["AEROSTIC_META_VERIFY_TOKEN"],
        "AEROSTIC_EMULATOR_APP_ID": values["AEROSTIC_META_APP_ID"],
        "AEROSTIC_EMULATOR_APP_SECRET": values["AEROSTIC_META_APP_SECRET"],
        "AEROSTIC_EMULATOR_VERIFY_TOKEN": values["AEROSTIC_META_VERIFY_TOKEN"],
        "AEROSTIC_EMULATOR_CALLBACK_URL": f"http://{address('GATEWAY')}/webhooks/meta",
        "AEROSTIC_GATEWAY_INGEST_URL": f"http://{address('WEBHOOKS')}",
    }


def _trust(values: Mapping[str, str]) -> str:
    keys = {name: ServiceIdentity(name, _seed(values, setting)).public_key for name, setting in SERVICE_KEYS.items()}
    return json.dumps(keys, separators=(",", ":"))


def _seed(values: Mapping[str, str], setting: str) -> bytes:
    try:
        return key_bytes(values[setting])
    except ValueError as error:
        raise SettingsRefused(f"{setting}: {error}") from error
