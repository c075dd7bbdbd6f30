"""A tenant's own workers as the installation makes them: templates, and the objects that come of them.

A template is a JSON file of the folder that the chart mounts. Texts in its objects name what is filled in:
`${tenant.id}`, `${tenant.slug}`, `${replicas.min}`, `${replicas.max}`; a text that is nothing else than one of the
latter two becomes a number.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerostic_operator import children, objects
from aerostic_operator.objects import GROUP, Body, Json
from aerostic_operator.tenants.model import Bounds, Size, Worker

TENANT_LABEL = f"{GROUP}/tenant"
"""Label of all objects of a tenant's own workers: its slug."""
WORKER_LABEL = f"{GROUP}/worker"
_AUTOSCALERS = {"HorizontalPodAutoscaler", "ScaledObject"}
_FIELD = re.compile(r"\$\{([a-z.]+)\}")


class BadTemplate(Exception):
    """The folder of templates is not as the chart makes it."""


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of worker."""

    worker: str
    usual: Bounds
    """Where the Tenant says nothing about it."""
    objects: tuple[Json, ...]


def load(folder: Path) -> tuple[Template, ...]:
    """All templates of a folder, by name of file. Raises BadTemplate."""
    try:
        texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}
    except OSError as error:
        raise BadTemplate(f"{folder}: {error}") from error
    if not texts:
        raise BadTemplate(f"{folder} has no templates")
    return tuple(_parsed(name, text) for name, text in texts.items())


def filled(template: Template, owner: Body, tenant_id: str, size: Size | None) -> list[Json]:
    """The worker's objects for a tenant, signed and owned by its object."""
    slug = owner["spec"]["slug"]
    bounds = (size or Size()).within(template.usual)
    is_scaled = bounds.most > bounds.least and any(each["kind"] in _AUTOSCALERS for each in template.objects)
    fields = {
        "tenant.id": tenant_id,
        "tenant.slug": slug,
        "replicas.min": bounds.least,
        "replicas.max": bounds.most,
    }
    made = []
    for each in template.objects:
        if (each["kind"] in _AUTOSCALERS and not is_scaled) or (
            each["kind"] == "PodDisruptionBudget" and bounds.least < 2
        ):
            continue
        body = _with_fields(each, fields)
        if each["kind"] == "Deployment" and is_scaled:
            # Whoever scales has them: we would take them back each time.
            body["spec"].pop("replicas", None)
        labels = {**body["metadata"].get("labels", {}), TENANT_LABEL: slug, WORKER_LABEL: template.worker}
        body["metadata"] |= {"labels": labels, "ownerReferences": [objects.owner_reference(owner)]}
        made.append(children.signed(body))
    return made


def standing(deployment: Body) -> Worker:
    """How a worker's Deployment is getting on."""
    spec, status = deployment["spec"], objects.status_of(deployment)
    desired, available = int(spec.get("replicas", 1)), int(status.get("availableReplicas", 0))
    updated, all_replicas = int(status.get("updatedReplicas", 0)), int(status.get("replicas", 0))
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    progress, failure = (objects.condition(deployment, kind) for kind in ("Progressing", "ReplicaFailure"))
    is_stuck = progress.get("status") == "False"
    trouble = failure.get("message", "") if failure.get("status") == "True" else ""
    return Worker(
        deployment["metadata"]["labels"].get(WORKER_LABEL, ""),
        desired,
        available,
        # Old replicas that are still there are the available ones, while new ones do not come.
        is_rolled_out=is_seen and desired <= updated and all_replicas <= updated <= available,
        is_stuck=is_stuck,
        trouble=trouble or (progress.get("message", "") if is_stuck else ""),
    )


def _parsed(name: str, text: str) -> Template:
    try:
        told = json.loads(text)
        usual = Bounds(told["replicas"]["min"], told["replicas"]["max"])
        template = Template(told["worker"], usual, tuple(told["objects"]))
        unknown = {each["kind"] for each in template.objects} - children.FOLDERS.keys()
    except (ValueError, KeyError, TypeError) as error:
        raise BadTemplate(f"{name}: {error!r}") from error
    if unknown:
        raise BadTemplate(f"{name}: the operator makes no {', '.join(sorted(unknown))}")
    return template


def _with_fields(node: Any, fields: Mapping[str, str | int]) -> Any:
    if isinstance(node, Mapping):
        return {name: _with_fields(value, fields) for name, value in node.items()}
    if isinstance(node, list):
        return [_with_fields(each, fields) for each in node]
    if not isinstance(node, str):
        return node
    if (whole := _FIELD.fullmatch(node)) is not None:
        return fields.get(whole[1], node)
    return _FIELD.sub(lambda found: str(fields.get(found[1], found[0])), node)
