"""Writes helm/aerostic/values.schema.json: what values the chart takes. `make docs` runs it.

Settings come from the classes that read them, so that a misspelt one is refused by `helm install` and not by a pod that
does not start. What the chart sets itself (addresses, ports, secrets) is no value.
"""

import json
import re
from pathlib import Path
from typing import Any

import settings_doc

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "helm" / "aerostic" / "values.schema.json"

Schema = dict[str, Any]

# Process of the chart → which class reads its settings, as tools/settings_doc.py names it.
READERS = {
    "gateway": "gateway serve",
    "webhooks-ingest": "svc-webhooks ingest",
    "svc-auth": "svc-auth serve",
    "svc-tenants": "svc-tenants serve",
    "messaging-server": "svc-messaging serve",
    "messaging-inbox": "svc-messaging inbox",
    "messaging-sender": "svc-messaging sender",
    "meta-emulator": "meta-emulator",
    "operator": "operator run",
}
# Set by the chart from what it knows; of AEROSTIC_SECRETS_FOLDER the chart makes no use.
_MANAGED = re.compile(
    r"_(HOST|PORT|TARGET|INGEST_URL|CALLBACK_URL|SECRETS_FOLDER|STATE_FILE|SERVICE_TRUST|OPERATOR_NAMESPACE|"
    r"OPERATOR_IDENTITY|OPERATOR_INVITATIONS_NAMESPACE|WORKERS_FOLDER|MESSAGING_TENANT|(TENANTS|EMULATOR)_APP_ID)$"
)
_WORKERS = ("messaging-inbox", "messaging-sender")
_PERCENT = {"type": "integer", "minimum": 1, "maximum": 100}
_COUNT = {"type": "integer", "minimum": 1}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_SWITCH = {"type": "boolean"}
_TEXT = {"type": "string"}
_ANY: Schema = {"type": "object"}
_ANYS = {"type": "array", "items": {"type": "object"}}
_NAME = {"type": "string", "pattern": r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", "maxLength": 253}
_SIZE = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti)$"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def settings(reader: str) -> dict[str, Schema]:
    """Settings of a process that an installation may choose."""
    cls = settings_doc.load(settings_doc.READERS[reader])
    schemas = cls.model_json_schema()["properties"]
    found = {}
    for name, about in cls.model_fields.items():
        variable = settings_doc.variable(cls, name)
        if not settings_doc.is_secret(about) and not _MANAGED.search(variable):
            found[variable] = _loose(schemas.get(about.validation_alias or name, {}), about.description or "")
    return found


def _loose(schema: Schema, description: str) -> Schema:
    """Numbers and switches may be written as YAML has them, or as text; lists as text with commas, or as lists."""
    result: Schema = {"description": description}
    kind = schema.get("type")
    if "enum" in schema:
        return {**result, "enum": schema["enum"]}
    if kind in {"integer", "number"}:
        bounds = {key: schema[key] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
                  if key in schema}  # fmt: skip
        return {**result, "type": [kind, "string"], "pattern": r"^-?[0-9]+(\.[0-9]+)?$", **bounds}
    if kind == "boolean":
        return {**result, "enum": [True, False, "true", "false"]}
    if kind == "array":
        return {**result, "type": ["array", "string"]}
    return {**result, "type": ["string", "number"], **({"pattern": schema["pattern"]} if "pattern" in schema else {})}


def closed(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    """An object with these properties and no others."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": required} if required else schema


def process(name: str) -> Schema:
    scaling = {"enabled": _SWITCH, "min": _COUNT, "max": _COUNT}
    properties: dict[str, Schema] = {
        "replicas": {"type": "integer", "minimum": 0},
        "resources": _ANY,
        "settings": closed(settings(READERS[name])),
        "env": _ANYS,
        "podLabels": _TEXTS,
        "podAnnotations": _TEXTS,
        "nodeSelector": _TEXTS,
        "tolerations": _ANYS,
        "affinity": _ANY,
        "priorityClassName": _TEXT,
    }
    if name not in {"meta-emulator", "operator"}:
        properties["autoscaling"] = closed({**scaling, "cpuPercent": _PERCENT})
    if name in _WORKERS:
        properties["keda"] = closed({**scaling, "lagPerReplica": _COUNT})
    return closed(properties, ["replicas", "resources"])


def _stores() -> dict[str, Schema]:
    storage = closed({"size": _SIZE, "className": _TEXT}, ["size"])
    external = closed(
        {
            "existingSecret": _NAME,
            "host": _TEXT,
            "port": _PORT,
            "sslmode": {"enum": ["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"]},
            "superuser": _TEXT,
            "superuserSecret": closed({"name": _NAME, "key": _TEXT}, ["key"]),
            "cidrs": {"type": "array", "items": _TEXT},
        }
    )
    pinned = {"type": "string", "pattern": r"^[^:@]+(:[0-9]+/[^:@]+)?(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$",
              "not": {"pattern": ":latest$"}}  # fmt: skip
    cluster = closed({"image": pinned, "instances": _COUNT, "requireOperator": _SWITCH, "spec": _ANY})
    return {
        "postgresql": closed(
            {
                "mode": {"enum": ["external", "cloudnativepg", "trial"]},
                "external": external,
                "image": pinned,
                "storage": storage,
                "parameters": _TEXTS,
                "resources": _ANY,
                "cloudnativepg": cluster,
            },
            ["mode"],
        ),
        "nats": closed(
            {
                "enabled": _SWITCH,
                "replicas": {"enum": [1, 3, 5]},
                "image": pinned,
                "storage": storage,
                "fileStore": {"type": "string", "pattern": "^[0-9]+(KB|MB|GB|TB)$"},
                "lameDuckSeconds": {"type": "integer", "minimum": 30},
                "memoryLimit": {"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$"},
                "account": _TEXT,
                "priorityClassName": _TEXT,
                "nodeSelector": _TEXTS,
                "tolerations": _ANYS,
                "resources": _ANY,
                "external": closed(
                    {
                        "existingSecret": _NAME,
                        "port": _COUNT,
                        "cidrs": {"type": "array", "items": _TEXT},
                        "monitoringEndpoint": _TEXT,
                    }
                ),
                "backup": closed(
                    {
                        "enabled": _SWITCH,
                        "schedule": {"type": "string", "pattern": r"^(@[a-z]+|\S+( \S+){4})$"},
                        "storage": storage,
                        "existingClaim": _NAME,
                        "resources": _ANY,
                    }
                ),
            }
        ),
    }


def _operator() -> Schema:
    worker = closed({"min": _COUNT, "max": _COUNT, "resources": _ANY}, ["min", "max"])
    return closed(
        {
            "enabled": _SWITCH,
            "protection": _SWITCH,
            "dedicatedWorkers": closed({"enabled": _SWITCH, "inbox": worker, "sender": worker}),
            "invitationsNamespace": _NAME,
            "tokenNamespaces": {"type": "array", "items": {**_NAME, "minLength": 1}, "uniqueItems": True},
        }
    )


def _edges() -> dict[str, Schema]:
    return {
        "serviceAccount": closed({"annotations": _TEXTS}),
        "service": closed({"type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, "annotations": _TEXTS}),
        "ingress": closed(
            {"enabled": _SWITCH, "className": _TEXT, "host": _NAME, "tlsSecret": _NAME, "annotations": _TEXTS}
        ),
        "gatewayApi": closed(
            {
                "enabled": _SWITCH,
                "parentRefs": _ANYS,
                "hostnames": {"type": "array", "items": _TEXT},
                "annotations": _TEXTS,
            }
        ),
        "networkPolicy": closed(
            {
                "enabled": _SWITCH,
                "ingressFrom": _ANYS,
                "metricsFrom": _ANYS,
                "kedaFrom": _ANYS,
                "apiServerPorts": {"type": "array", "items": _PORT, "minItems": 1},
                "extraEgress": _ANYS,
            }
        ),
        "monitoring": closed(
            {
                "labels": _TEXTS,
                "serviceMonitors": closed(
                    {"enabled": _SWITCH, "interval": {"type": "string", "pattern": "^[0-9]+[sm]$"}}
                ),
                "rules": closed({"enabled": _SWITCH, "runbooks": _TEXT}),
                "dashboards": closed({"enabled": _SWITCH, "labels": _TEXTS}),
            }
        ),
        "crds": closed({"enabled": _SWITCH, "keep": _SWITCH}),
    }


def schema() -> Schema:
    shared = {name: each for reader in READERS.values() if reader != "meta-emulator" for name, each in
              settings(reader).items() if not _is_own(name)}  # fmt: skip
    image = {
        "repository": {"type": "string", "minLength": 1},
        "tag": {"type": "string", "not": {"const": "latest"}},
        "digests": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}},
        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
        "pullSecrets": _ANYS,
    }
    properties = {
        "nameOverride": _NAME,
        "fullnameOverride": {**_NAME, "maxLength": 40},
        "commonLabels": _TEXTS,
        "global": _ANY,
        "image": closed(image),
        "settings": closed(shared),
        "meta": closed({"appId": {"type": "string", "pattern": "^[0-9]*$"}, "existingSecret": _NAME}),
        "secrets": closed({"existingSecret": _NAME, "version": _TEXT}),
        **_stores(),
        "migrations": closed({"hook": _SWITCH, "keepSeconds": _COUNT, "resources": _ANY}),
        "emulator": closed({"enabled": _SWITCH}),
        "operator": _operator(),
        "processes": closed({name: process(name) for name in READERS}, list(READERS)),
        "preStopSeconds": {"type": "integer", "minimum": 1, "maximum": 60},
        "topologySpread": {"enum": ["ScheduleAnyway", "DoNotSchedule"]},
        "priorityClassName": _TEXT,
        **_edges(),
    }
    return {"$schema": "https://json-schema.org/draft-07/schema#", "title": "Values of Aerostic", **closed(properties)}


def _is_own(name: str) -> bool:
    """Of one service, not of all."""
    return bool(re.match(r"AEROSTIC_(AUTH|TENANTS|MESSAGING|WEBHOOKS|GATEWAY|EMULATOR)_", name))


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
    print(f"wrote {SCHEMA.relative_to(ROOT)}")
