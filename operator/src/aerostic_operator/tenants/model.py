"""What is said of a Tenant, what there is of it, and what can be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aerostic_operator import objects
from aerostic_operator.conditions import Verdict

Policy = Literal["Observe", "Create", "Update"]
Deletion = Literal["Retain", "Suspend", "Delete"]
"""What becomes of the tenant when its object goes."""
EVERYTHING: frozenset[Policy] = frozenset({"Observe", "Create", "Update"})


@dataclass(frozen=True, slots=True)
class Desired:
    """What the object says. None: nothing is said about it."""

    uid: str
    slug: str
    generation: int
    display_name: str | None = None
    owner_email: str | None = None
    suspended: bool | None = None
    suspension_reason: str = ""
    reverts_drift: bool = True
    deletion: Deletion = "Retain"
    policies: frozenset[Policy] = EVERYTHING
    is_deleting: bool = False
    may_adopt: bool = False
    is_abandoned: bool = False

    @property
    def only_observes(self) -> bool:
        return not self.policies & {"Create", "Update"}

    @classmethod
    def of(cls, body: objects.Body) -> "Desired":
        spec, meta = body["spec"], body["metadata"]
        named = frozenset(spec.get("managementPolicies") or ["*"])
        return cls(
            uid=meta["uid"],
            slug=spec["slug"],
            generation=meta["generation"],
            display_name=spec.get("displayName"),
            owner_email=spec.get("ownerEmail"),
            suspended=spec.get("suspended"),
            suspension_reason=spec.get("suspensionReason", ""),
            reverts_drift=spec.get("driftPolicy") != "Report",
            deletion=spec.get("deletionPolicy", "Retain"),
            policies=EVERYTHING if "*" in named else named,
            is_deleting=objects.is_being_deleted(body),
            may_adopt=objects.is_annotated(body, objects.ADOPT),
            is_abandoned=objects.is_annotated(body, objects.ABANDON),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """The tenant as the platform has it."""

    tenant_id: str
    display_name: str
    is_suspended: bool
    is_being_erased: bool = False
    connected_numbers: int = 0


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """Who is, or may become, the first admin."""

    email: str
    has_joined: bool
    has_expired: bool = False
    expire_time: str = ""


@dataclass(frozen=True, slots=True)
class Erasure:
    """How far the platform is with erasing a tenant."""

    remaining_steps: tuple[str, ...] = ()
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there."""

    record: Record | None = None
    first_admin: FirstAdmin | None = None
    has_secret: bool = False
    """Whether the Secret with the first admin's token is there."""
    erasure: Erasure | None = None
    """Of a tenant that is being erased for an object that goes."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier round noted in the object's status."""

    tenant_id: str = ""
    is_bound: bool = False
    """Whether that tenant is this object's: made for it, or adopted by consent. One that was only shown is not."""
    applied_generation: int = 0
    """The last generation that the platform was made to be like."""

    @classmethod
    def of(cls, body: objects.Body) -> "Known":
        status: Mapping[str, Any] = objects.status_of(body)
        return cls(status.get("tenantId", ""), status.get("bound", False), status.get("appliedGeneration", 0))

    def owns(self, desired: Desired, record: Record) -> bool:
        return record.tenant_id == desired.uid or (self.is_bound and record.tenant_id == self.tenant_id)


@dataclass(frozen=True, slots=True)
class Apply:
    """Make the tenant be so, creating it where it is missing."""

    tenant_id: str
    because: Literal["create", "change", "drift", "delete"]
    differences: tuple[str, ...] = ()
    display_name: str | None = None
    suspended: bool | None = None
    suspension_reason: str = ""


@dataclass(frozen=True, slots=True)
class Invite:
    """Invite the first admin, and put the token where the object's owner finds it."""

    tenant_id: str
    email: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the Secret with a token that was used."""


@dataclass(frozen=True, slots=True)
class Erase:
    """Have the tenant erased. The platform does it by itself; repeating this tells how far it is."""

    tenant_id: str


Action = Apply | Invite | Forget | Erase


@dataclass(frozen=True, slots=True)
class Plan:
    """One action at a time, or none and how the object stands."""

    verdict: Verdict
    action: Action | None = None
    needs_finalizer: bool = False
    is_bound: bool = False
    """Whether the tenant is this object's: a slug alone, which anybody may register, makes it nobody's."""
