"""Objects that describe the same number of the same Tenant: one of them counts, the oldest."""

from collections.abc import Iterable

from aerostic_operator import objects
from aerostic_operator.objects import Body


def rivals_of(body: Body, others: Iterable[Body]) -> list[Body]:
    """Other objects for the number of this one; without those that only look, and those that go."""
    number, uid = _number(body), body["metadata"]["uid"]
    return [
        other
        for other in others
        if _number(other) == number
        and other["metadata"]["uid"] != uid
        and not objects.is_being_deleted(other)
        and set(other["spec"].get("managementPolicies") or ["*"]) & {"*", "Create", "Update"}
    ]


def older(body: Body, rivals: Iterable[Body]) -> str:
    """The oldest of those that are older than the object, as namespace/name; empty where it is the oldest."""
    oldest = min([body, *rivals], key=_age)
    if oldest is body:
        return ""
    return f"{oldest['metadata']['namespace']}/{oldest['metadata']['name']}"


def _number(body: Body) -> tuple[str, str]:
    return body["spec"]["tenantRef"]["name"], body["spec"]["phoneNumberId"]


def _age(body: Body) -> tuple[str, str]:
    # Kubernetes counts seconds; of one second the order is any, but always the same.
    return body["metadata"]["creationTimestamp"], body["metadata"]["uid"]
