"""What to do about a Tenant: a function of what is described and what is there, and of nothing else.

It is asked again after each action until there is nothing left to do, and whenever anything may have changed. It does
not care how things came to be as they are.
"""

from typing import Literal

from aerostic_operator.conditions import Verdict
from aerostic_operator.tenants.model import (
    Action,
    Apply,
    Desired,
    Erase,
    Erasure,
    FirstAdmin,
    Forget,
    Invite,
    Known,
    Observed,
    Plan,
    Record,
)
from aerostic_operator.tenants.staffing import staffed

DELETED = "The workspace's description in Kubernetes was deleted."
"""Why a workspace is suspended by deletion."""


def plan(desired: Desired, observed: Observed, known: Known) -> Plan:
    now = _of_workspace(desired, observed, known)
    if now.action is not None or (desired.is_deleting and not now.needs_finalizer):
        return now  # an object that goes takes its workers with it
    return staffed(now, desired, observed.record, observed.workers)


def _of_workspace(desired: Desired, observed: Observed, known: Known) -> Plan:
    record = observed.record
    is_own = record is not None and known.owns(desired, record)
    if desired.is_deleting:
        return _deletion(desired, observed, is_own=is_own)
    if record is None:
        return _missing(desired)
    if record.is_being_erased:
        text = "The workspace is being erased, which cannot be undone. Delete this object, or wait and create it anew."
        return Plan(Verdict("stalled", "Erasing", text, is_synced=False), None, _needs_finalizer(desired) and is_own)
    differences = _differences(desired, record)
    is_bound = is_own or (desired.may_adopt and not desired.only_observes)
    if not is_bound and not desired.only_observes:
        return Plan(_preview(differences, observed.first_admin))
    if differences:
        return _different(desired, record, known, differences, is_bound=is_bound)
    action = _first_admin(desired, observed, record) if is_bound else None
    word = "Suspended" if record.is_suspended else "Active"
    return Plan(Verdict("ready", word, _sentence(record)), action, _needs_finalizer(desired), is_bound)


def asks_for_admin(desired: Desired, record: Record, known: Known) -> bool:
    """Whether the plan needs to know the first admin: to invite, or to say whose workspace would be adopted."""
    return desired.owner_email is not None or not (desired.only_observes or known.owns(desired, record))


def may_go(desired: Desired) -> bool:
    """Whether the object is released whatever the platform says, and even if it says nothing."""
    return desired.is_deleting and (desired.is_abandoned or not _needs_finalizer(desired))


def _missing(desired: Desired) -> Plan:
    if "Create" not in desired.policies:
        text = f"There is no workspace {desired.slug}, and managementPolicies do not let the operator create it."
        return Plan(Verdict("stalled", "NotFound", text, is_synced=False))
    # The object's own id: whoever repeats this makes the same tenant.
    create = _apply(desired, desired.uid, "create")
    verdict = Verdict("working", "Creating", "The workspace is being created.", is_synced=False)
    return Plan(verdict, create, _needs_finalizer(desired))


def _different(desired: Desired, record: Record, known: Known, differences: tuple[str, ...], *, is_bound: bool) -> Plan:
    words = "; ".join(differences)
    finalizer = _needs_finalizer(desired) and is_bound
    if "Update" not in desired.policies:
        verdict = Verdict("ready", "Observed", f"Observed only. {words}.", is_synced=False, differences=differences)
        return Plan(verdict, None, finalizer, is_bound)
    is_drift = known.applied_generation == desired.generation
    if is_drift and not desired.reverts_drift:
        verdict = Verdict("ready", "Drifted", f"Changed elsewhere: {words}.", is_synced=False, differences=differences)
        return Plan(verdict, None, finalizer, is_bound)
    action = _apply(desired, record.tenant_id, "drift" if is_drift else "change", differences)
    return Plan(Verdict("working", "Updating", f"{words}.", is_synced=False), action, finalizer, is_bound)


def _apply(
    desired: Desired,
    tenant_id: str,
    because: Literal["create", "change", "drift"],
    differences: tuple[str, ...] = (),
) -> Apply:
    return Apply(
        tenant_id,
        because,
        differences,
        display_name=desired.display_name,
        suspended=desired.suspended,
        suspension_reason=desired.suspension_reason,
        isolation=desired.isolation,
    )


def _preview(differences: tuple[str, ...], admin: FirstAdmin | None) -> Verdict:
    """Without differences too: what an object manages is trusted with more than what stands in its spec."""
    changes = f"changes it: {'; '.join(differences)}" if differences else "changes nothing of it now"
    whose = "It has no admin"
    if admin is not None:
        whose = f"Its admin is {admin.email}" if admin.has_joined else f"{admin.email} is invited to be its admin"
    text = f"A workspace with this slug exists. {whose}. Adopting it {changes}. Annotate aerostic.io/adopt=true."
    return Verdict("stalled", "AdoptionPreview", text, is_synced=False, differences=differences)


def _deletion(desired: Desired, observed: Observed, *, is_own: bool) -> Plan:
    record = observed.record
    verdict = Verdict("working", "Deleting", "The workspace is being suspended.", is_synced=False)
    if may_go(desired) or record is None or not is_own:
        return Plan(verdict)
    if desired.deletion == "Delete":
        return _erasure(record, observed.erasure)
    if record.is_suspended or record.is_being_erased:
        return Plan(verdict)
    suspend = Apply(record.tenant_id, "delete", suspended=True, suspension_reason=DELETED)
    return Plan(verdict, suspend, needs_finalizer=True, is_bound=True)


def _erasure(record: Record, erasure: Erasure | None) -> Plan:
    """The object stays until nothing of the tenant is left."""
    words = ["The workspace is being erased."]
    if erasure and erasure.remaining_steps:
        words.append(f"Still to do: {', '.join(erasure.remaining_steps)}.")
    if erasure and erasure.last_error:
        words.append(f"It is tried again after: {erasure.last_error}")
    action = None if record.is_being_erased else Erase(record.tenant_id)
    verdict = Verdict("working", "Erasing", " ".join(words), is_synced=False)
    return Plan(verdict, action, needs_finalizer=True, is_bound=True)


def _first_admin(desired: Desired, observed: Observed, record: Record) -> Action | None:
    admin = observed.first_admin
    if admin is not None and admin.has_joined:
        return Forget() if observed.has_secret else None
    if desired.owner_email is None or "Create" not in desired.policies:
        return None
    is_open = admin is not None and admin.email == desired.owner_email.lower() and not admin.has_expired
    return None if is_open and observed.has_secret else Invite(record.tenant_id, desired.owner_email)


def _needs_finalizer(desired: Desired) -> bool:
    """Only where deletion has something to do: whatever needs none cannot get stuck on one."""
    return desired.deletion != "Retain" and "Update" in desired.policies


def _differences(desired: Desired, record: Record) -> tuple[str, ...]:
    found = []
    if desired.display_name is not None and desired.display_name.strip() != record.display_name:
        found.append(f'displayName is "{record.display_name}" instead of "{desired.display_name}"')
    if desired.suspended is not None and desired.suspended != record.is_suspended:
        words = ("suspended", "active") if record.is_suspended else ("active", "suspended")
        found.append(f"the workspace is {words[0]} instead of {words[1]}")
    if desired.isolation not in {None, record.isolation}:
        found.append(f"isolation is {record.isolation} instead of {desired.isolation}")
    return tuple(found)


def _sentence(record: Record) -> str:
    return "The workspace is suspended." if record.is_suspended else "The workspace is active."
