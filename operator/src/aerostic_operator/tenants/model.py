"""What is said of a Tenant, what there is of it, and what can be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from aerostic_operator import objects
from aerostic_operator.conditions import Verdict
from aerostic_operator.objects import Child

Policy = Literal["Observe", "Create", "Update"]
Deletion = Literal["Retain", "Suspend", "Delete"]
"""What becomes of the tenant when its object goes."""
Isolation = Literal["shared", "dedicated"]
"""Whose workers serve the tenant's numbers: everybody's, or its own where the installation runs any for it."""
EVERYTHING: frozenset[Policy] = frozenset({"Observe", "Create", "Update"})


@dataclass(frozen=True, slots=True)
class Size:
    """Bounds of the replicas of one worker. None: nothing is said about it."""

    least: int | None = None
    most: int | None = None

    def within(self, usual: "Bounds") -> "Bounds":
        """What is not said is as usual, as far as it fits what is."""
        if self.least is None:
            least = usual.least if self.most is None else min(usual.least, self.most)
        else:
            least = self.least
        return Bounds(least, max(least, usual.most) if self.most is None else self.most)


class Bounds(NamedTuple):
    """Of replicas."""

    least: int
    most: int


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
    isolation: Isolation | None = None
    sizes: Mapping[str, Size] = field(default_factory=lambda: MappingProxyType({}))
    """Of its own workers, by name."""
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
            isolation=spec.get("isolation"),
            sizes={name: Size(each.get("min"), each.get("max")) for name, each in spec.get("workers", {}).items()},
            reverts_drift=spec.get("driftPolicy") != "Report",
            deletion=spec.get("deletionPolicy", "Retain"),
            policies=EVERYTHING if "*" in named else named,
            is_deleting=objects.is_being_deleted(body),
            may_adopt=objects.is_annotated(body, objects.ADOPT),
            is_abandoned=objects.is_annotated(body, objects.ABANDON),
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Messages of one calendar month, such as "2026-11"."""

    month: str
    received: int = 0
    sent: int = 0
    delivered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """The tenant as the platform has it."""

    tenant_id: str
    display_name: str
    is_suspended: bool
    is_being_erased: bool = False
    connected_numbers: int = 0
    isolation: Isolation = "shared"
    usage: Usage | None = None


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
class Worker:
    """One of a tenant's own workers, which is a Deployment."""

    name: str
    desired: int
    available: int
    is_rolled_out: bool = True
    """Whether all replicas are there, and of the present template."""
    is_stuck: bool = False
    """Whether Kubernetes has given up waiting for that."""
    trouble: str = ""
    """Why replicas do not come, in Kubernetes' words; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The objects of a tenant's own workers, beside those that it would have if it is to have any."""

    are_offered: bool = False
    """Whether this installation runs workers for single tenants."""
    present: tuple[Child, ...] = ()
    stale: tuple[Child, ...] = ()
    """Those that are missing, or not as they would be."""
    surplus: tuple[Child, ...] = ()
    """Those of the present that nobody needs, even if the tenant has workers."""
    standing: tuple[Worker, ...] = ()
    refusal: str = ""
    """Why Kubernetes would not have what was stale made, in its words."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there."""

    record: Record | None = None
    first_admin: FirstAdmin | None = None
    has_secret: bool = False
    """Whether the Secret with the first admin's token is there."""
    erasure: Erasure | None = None
    """Of a tenant that is being erased for an object that goes."""
    workers: Workers = Workers()


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
    isolation: Isolation | None = None


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


@dataclass(frozen=True, slots=True)
class Staff:
    """Make the objects of the tenant's own workers be as the installation has them."""

    tenant_id: str
    stale: tuple[Child, ...]
    present: tuple[Child, ...]


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Remove objects of workers. What they had in hand, whoever stands in takes over."""

    surplus: tuple[Child, ...]


Action = Apply | Invite | Forget | Erase | Staff | Dismiss


@dataclass(frozen=True, slots=True)
class Plan:
    """One action at a time, or none and how the object stands."""

    verdict: Verdict
    action: Action | None = None
    needs_finalizer: bool = False
    is_bound: bool = False
    """Whether the tenant is this object's: a slug alone, which anybody may register, makes it nobody's."""
    standing: tuple[Worker, ...] = ()
    """Workers of its own that the tenant is to have, and has."""
