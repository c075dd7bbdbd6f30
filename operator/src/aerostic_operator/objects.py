"""Kubernetes objects as JSON, and the words of ours that stand in them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

GROUP = "aerostic.io"
VERSION = "v1alpha1"
FINALIZER = f"{GROUP}/operator"
PAUSED = f"{GROUP}/paused"
"""Annotation; "true": the operator leaves the object and what it describes alone."""
ADOPT = f"{GROUP}/adopt"
"""Annotation; "true": what exists already may be changed to be as described."""
ABANDON = f"{GROUP}/abandon"
"""Annotation; "true": an object that is being deleted goes at once, and what it describes stays as it is."""
IMPORTED = f"{GROUP}/imported"
"""Label of objects that the operator made for what was there before."""

Json = dict[str, Any]
Body = Mapping[str, Any]


class Key(NamedTuple):
    """Names an object of one kind; the namespace is empty where the kind has none."""

    namespace: str
    name: str


class Child(NamedTuple):
    """Names an object of one of Kubernetes' own kinds, in the operator's namespace."""

    kind: str
    name: str

    @classmethod
    def of(cls, body: Body) -> "Child":
        return cls(body["kind"], body["metadata"]["name"])


def key_of(body: Body) -> Key:
    meta = body["metadata"]
    return Key(meta.get("namespace", ""), meta["name"])


def is_annotated(body: Body, annotation: str) -> bool:
    """Whether a switch of ours is on."""
    annotations: Mapping[str, str] = body["metadata"].get("annotations") or {}
    return annotations.get(annotation) == "true"


def is_being_deleted(body: Body) -> bool:
    return "deletionTimestamp" in body["metadata"]


def has_finalizer(body: Body) -> bool:
    return FINALIZER in (body["metadata"].get("finalizers") or ())


def status_of(body: Body) -> Body:
    found: Body = body.get("status") or {}
    return found


def condition(body: Body, kind: str) -> Body:
    """A condition of the object; empty where it has none of this type."""
    return next((each for each in status_of(body).get("conditions") or () if each["type"] == kind), {})


def owner_reference(body: Body) -> Json:
    """What makes a child go with the object."""
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
