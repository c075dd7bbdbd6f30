"""What is told of a Tenant: the fields of its status, and the events of what was done."""

from collections.abc import Iterable
from datetime import datetime

from aerostic_operator import objects
from aerostic_operator.events import Note
from aerostic_operator.objects import Body, Child, Json
from aerostic_operator.tenants import usage
from aerostic_operator.tenants.model import Apply, Desired, Dismiss, Known, Observed, Plan, Record, Staff

ERASING = Note("Erasing", "The workspace is being erased, as deletionPolicy says.", is_warning=True)


def status(body: Body, desired: Desired, observed: Observed, now: Plan, time: datetime) -> Json:
    """Beside conditions and what only one round knows; None removes a field."""
    record, known = observed.record, Known.of(body)
    return {
        "tenantId": record.tenant_id if record and (now.is_bound or desired.only_observes) else known.tenant_id or None,
        # What is away for a moment is not another's for that.
        "bound": now.is_bound if record else known.is_bound,
        "appliedGeneration": desired.generation if now.verdict.is_synced else known.applied_generation or None,
        "state": _state(record),
        "displayName": record.display_name if record else None,
        "isolation": record.isolation if record else None,
        "workers": [{"name": each.name, "desired": each.desired, "available": each.available} for each in now.standing]
        or None,
        "usage": usage.told(objects.status_of(body).get("usage"), record, time) if record else None,
        "differences": list(now.verdict.differences) or None,
    }


def applied(action: Apply) -> Note:
    words = "; ".join(action.differences)
    match action.because:
        case "create":
            return Note("Created", f"The workspace {action.tenant_id} was created.")
        case "drift":
            return Note("DriftReverted", f"Changed elsewhere, and made as described again: {words}.", is_warning=True)
        case "delete":
            return Note("Suspended", "The workspace was suspended, as deletionPolicy says.")
        case "change":
            return Note("Updated", f"The platform was brought in line: {words}.")


def staffed(action: Staff) -> Note:
    return Note("WorkersApplied", f"Objects of its own workers were made or changed: {_names(action.stale)}.")


def dismissed(action: Dismiss) -> Note:
    return Note("WorkersRemoved", f"Objects of its own workers were removed: {_names(action.surplus)}.")


def _state(record: Record | None) -> str | None:
    if record is None:
        return None
    if record.is_being_erased:
        return "deleting"
    return "suspended" if record.is_suspended else "active"


def _names(children: Iterable[Child]) -> str:
    return ", ".join(f"{each.kind} {each.name}" for each in children)
