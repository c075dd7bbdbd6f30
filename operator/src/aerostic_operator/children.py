"""Objects of Kubernetes' own kinds that belong to one of ours: whether they are as wanted, and made so.

An object bears the digest of what was applied last, so that a field that is wanted no more is noticed, and is compared
with what is wanted, so that a change by hand is. Nothing is written where both agree.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from aerostic_operator import metrics
from aerostic_operator.kube import Kube, KubeError
from aerostic_operator.objects import GROUP, Body, Child, Json

APPLIED = f"{GROUP}/applied"
"""Annotation: the digest of the object as we applied it."""
FOLDERS = {
    "Deployment": ("/apis/apps/v1", "deployments"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "ScaledObject": ("/apis/keda.sh/v1alpha1", "scaledobjects"),
}
_TAKEN = 409
_FACTORS = {unit: Decimal(1000) ** power for power, unit in enumerate(["n", "u", "m", "", "k", "M", "G", "T", "P"], -3)}
_FACTORS |= {unit: Decimal(1024) ** power for power, unit in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi"], 1)}


def folder_of(kind: str, namespace: str) -> str:
    """The URL of all objects of a kind."""
    root, plural = FOLDERS[kind]
    return f"{root}/namespaces/{namespace}/{plural}"


def signed(body: Json) -> Json:
    """The object with the digest of itself."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:20]
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), APPLIED: digest}}}


def is_as_wanted(live: Body, wanted: Body) -> bool:
    """Whether nothing need be applied. What others have added beside counts for nothing."""
    return _contains(live, wanted)


def is_owned(live: Body, owner: Body) -> bool:
    """Whether it belongs to this object, and not to one of the same name that is gone."""
    owners = live["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == owner["metadata"]["uid"] for each in owners)


async def listed(kube: Kube, namespace: str, selector: str) -> list[Body]:
    """All objects of the kinds above with these labels. A kind that the cluster does not serve has none."""
    found: list[Body] = []
    for kind, (root, _) in FOLDERS.items():
        bodies = await kube.items(folder_of(kind, namespace), selector=selector, is_optional=True)
        # Items of a list do not say what they are.
        version = root.removeprefix("/apis/")
        found += [{**body, "kind": kind, "apiVersion": version} for body in bodies]
    return found


async def apply(kube: Kube, namespace: str, wanted: Json, *, label: str, is_new: bool) -> None:
    """Create the object or make it so. Raises KubeError, also for one that somebody else made under this name."""
    path = f"{folder_of(wanted['kind'], namespace)}/{wanted['metadata']['name']}"
    if is_new and (found := await kube.find(path)) is not None:
        [owner] = wanted["metadata"]["ownerReferences"]
        is_ours = label in (found["metadata"].get("labels") or {}) or is_owned(found, {"metadata": owner})
        if not is_ours:
            raise KubeError(
                _TAKEN, f"{wanted['kind']} {wanted['metadata']['name']} is there, and is not the operator's"
            )
    metrics.writes.labels(wanted["kind"], "apply").inc()
    await kube.apply(path, wanted)


async def remove(kube: Kube, namespace: str, child: Child) -> None:
    metrics.writes.labels(child.kind, "delete").inc()
    await kube.delete(f"{folder_of(child.kind, namespace)}/{child.name}")


def _contains(live: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return False
        # The API server leaves empty fields out.
        return all(_contains(live[name], value) if name in live else _is_empty(value) for name, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(live, Sequence) or isinstance(live, str):
            return False
        if not any(isinstance(each, Mapping) for each in wanted):
            return list(live) == list(wanted)
        return all(any(_contains(each, item) for each in live) for item in wanted)
    return bool(live == wanted) or _is_same_quantity(live, wanted)


def _is_empty(value: Any) -> bool:
    return not value


def _is_same_quantity(one: Any, other: Any) -> bool:
    """1000m is stored as 1."""
    first, second = _quantity(one), _quantity(other)
    return first is not None and first == second


def _quantity(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    number = text.rstrip("numkMGTPi")
    factor = _FACTORS.get(text[len(number) :])
    try:
        return None if factor is None else Decimal(number) * factor
    except InvalidOperation:
        return None
